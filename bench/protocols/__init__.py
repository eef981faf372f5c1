"""How each network is trained: one YAML a network, with a section a scale; tuned settings beside it, by `bench tune`.

A network of another package has its YAML beside its module, under the name of the module. `configure` makes the
configuration of a run from them.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.config import Config, parse, read_yaml
from bench.data import resolve
from bench.errors import UsageError, unknown
from bench.models import MODELS
from bench.rules import RULES

SCALES = ("quick", "cpu", "gpu", "paper")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tuning:
    """What `bench tune` searches: ranges, low and high, in the logarithm."""

    rank: str
    """Rank of the rules that have one."""
    epochs: int
    """Length of a trial; the learning rate decays as much in all as over a full run."""
    lr: tuple[float, ...]
    weight_decay: tuple[float, ...]
    feedback_rate: tuple[float, ...]


@dataclass(frozen=True)
class Scale:
    """The settings of one network at one scale."""

    datasets: list[str]
    """Alternatives, in order; the first that is present is used."""
    settings: dict[str, Any]
    """Fields of `Config` for every rule."""
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of `Config` for one rule, above `settings`."""
    tune: Tuning | None = None
    """None where nothing is tuned."""


def protocol(model: str, scale: str) -> Scale:
    """The settings of `model` at `scale`. Raises `UsageError` where either does not exist."""
    if model not in MODELS.names():
        raise unknown("model", model, MODELS.names())
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    path = _path(model)
    scales = read_yaml(path)
    if scale not in scales:
        raise UsageError(f"--scale {scale}: model {model!r} has no such scale; allowed: {', '.join(scales)}")
    return parse(Scale, scales[scale], f"{path.name}: {scale}")


def tuned_path(model: str, scale: str) -> Path:
    """Where `bench tune` keeps the trials and the chosen settings of a network at a scale."""
    path = _path(model)
    return path.with_name(f"{path.stem}-{scale}-tuned.json")


def _path(model: str) -> Path:
    if model in MODELS.built_in():
        return HERE / f"{model}.yaml"
    module = MODELS.module(model)
    return Path(module.__file__).with_name(f"{module.__name__.rpartition('.')[2]}.yaml")


def tuned(model: str, scale: str) -> dict[str, dict[str, float]]:
    """The chosen settings, by rule; empty where nothing was tuned."""
    path = tuned_path(model, scale)
    return {rule: found["chosen"] for rule, found in json.loads(path.read_text()).items()} if path.exists() else {}


def configure(
    model: str,
    rule: str,
    scale: str,
    *,
    dataset: str | list[str] | None = None,
    choose: Callable[[str | list[str]], str] = resolve,
    chosen: bool = True,
    **overrides: Any,
) -> Config:
    """The configuration of a run: the protocol, then the rule's tuned settings, then `overrides`.

    `dataset` may name alternatives in order, of which `choose` takes one: by default the first that is present.
    `chosen` is false where the tuned settings are to be left out. Raises `UsageError` for anything that does not exist.
    """
    if rule not in RULES.names():
        raise unknown("rule", rule, RULES.names())
    found = protocol(model, scale)
    settings = found.settings | found.rules.get(rule, {}) | (tuned(model, scale).get(rule, {}) if chosen else {})
    values = {"model": model, "rule": rule, "dataset": choose(dataset or found.datasets), **settings, **overrides}
    if RULES.get(rule).ranked and values.get("rank") is None:
        values["rank"] = "full"
    return parse(Config, values, f"settings of {model} at scale {scale}")


def departures(config: Config, scale: str) -> dict[str, Any]:
    """Where a configuration departs from the one that its rule has at `scale`, at the same rank, data and seed.

    Options are taken one by one, as `bench run --set` has them: `{"model_options.width": 64}`. None stands for an
    option of the protocol that is left out.
    """
    kept = {"dataset": config.dataset, "rank": config.rank, "seed": config.seed}
    standard = _flat(configure(config.model, config.rule, scale, choose=str, **kept))
    own = _flat(config)
    return {key: own.get(key) for key in sorted(own | standard) if own.get(key) != standard.get(key)}


def _flat(config: Config) -> dict[str, Any]:
    values = asdict(config)
    options = {f"{name}.{key}": v for name in ("model_options", "rule_options") for key, v in values.pop(name).items()}
    return values | options
