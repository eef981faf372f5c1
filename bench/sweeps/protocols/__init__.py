"""How each network is trained: one YAML file per network, a section per scale; `bench tune` adds settings per rule.

A network from another package has its YAML file next to its module, with the same name. Tuned settings are results, in
`<results>/<scale>/tuned/<model>.json`. `configure` builds the configuration of a run from both.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from inspect import getfile
from pathlib import Path
from typing import Any

from bench.config import Config, parse, read_yaml
from bench.data import resolve
from bench.errors import UsageError, shown, unknown
from bench.models import MODELS
from bench.rules import RULES

SCALES = ("quick", "cpu", "gpu", "paper")
HERE = Path(__file__).parent
INSTALLED = HERE.parent / "results"
"""The tuned settings in a wheel, where `setup.py` puts them."""
COMMITTED = INSTALLED if INSTALLED.is_dir() else HERE.parents[2] / "results"
"""The results folder with the shipped tuned settings: of this checkout, or of the wheel."""
SEARCHED = ("lr", "weight_decay", "feedback_rate")
"""The settings that `bench tune` chooses; the last only for rules whose feedback has a separate rate."""
RESTORE = "restore it, or delete it and run `bench tune` again"


@dataclass(frozen=True)
class Tuning:
    """Where `bench tune` searches: ranges, low and high, in the logarithm, the same for every rule."""

    rank: str
    """Rank of the rules that have one."""
    lr: tuple[float, ...]
    weight_decay: tuple[float, ...]
    feedback_rate: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in SEARCHED:
            bounds = getattr(self, name)
            if len(bounds) != 2 or not 0 < bounds[0] < bounds[1] < math.inf:
                raise UsageError(f"{name}: {list(bounds)} is not a range; expected: two numbers, 0 < low < high")


@dataclass(frozen=True)
class Choice:
    """The result of the search for one rule."""

    chosen: dict[str, float]
    """Settings of the best trial, fields of `Config`."""
    trials: list[dict[str, int | float]]
    """In order: settings, `accuracy` on the validation split in percent, `round` (absent if there was only one)."""

    def __post_init__(self) -> None:
        for name, value in self.chosen.items():
            if name not in SEARCHED:
                raise unknown("chosen setting", name, SEARCHED)
            if not 0 <= value < math.inf:
                raise UsageError(f"{name}: {value!r} is not allowed; expected: finite, 0 or more")
        for number, trial in enumerate(self.trials, 1):
            if lacking := [name for name in (*self.chosen, "accuracy") if name not in trial]:
                raise UsageError(f"trial {number}: key {lacking[0]!r} is missing")
        if not any(self.chosen.items() <= trial.items() for trial in self.trials):
            raise UsageError(f"chosen: {self.chosen} is not one of its trials")


@dataclass(frozen=True)
class Scale:
    """The settings of one network at one scale."""

    datasets: list[str]
    """Alternatives, in order; the first one present is used."""
    settings: dict[str, Any]
    """Fields of `Config` for every rule."""
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of `Config` for one rule, overriding `settings`."""
    tune: Tuning | None = None
    """None if nothing is tuned."""


def protocol(model: str, scale: str) -> Scale:
    """The settings of `model` at `scale`. Raises `UsageError` if either does not exist."""
    if model not in MODELS.names():
        raise unknown("model", model, MODELS.names())
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    path = _path(model)
    scales = read_yaml(path)
    if not isinstance(scales, dict):
        raise UsageError(f"{path}: expected: scales with their settings, found {shown(scales)}")
    if scale not in scales:
        raise UsageError(f"--scale {scale}: model {model!r} has no such scale; expected: {', '.join(scales)}")
    return parse(Scale, scales[scale], f"{path.name}: {scale}")


def _path(model: str) -> Path:
    if model in MODELS.built_in():
        return HERE / f"{model}.yaml"
    module = MODELS.module(model)
    return Path(getfile(module)).with_name(f"{module.__name__.rpartition('.')[2]}.yaml")


def tuned_path(model: str, scale: str, results: Path) -> Path:
    """The file in which `bench tune` keeps a network's trials and chosen settings at a scale."""
    return results / scale / "tuned" / f"{model}.json"


def searches(model: str, scale: str, results: Path) -> dict[str, Choice]:
    """The searches in one results folder, by rule; empty if nothing was tuned.

    Raises `UsageError` if the file is damaged.
    """
    path = tuned_path(model, scale, results)
    if not os.path.lexists(path):
        return {}
    if not path.is_file():
        raise UsageError(f"{path}: is not a regular file; {RESTORE}")
    try:
        return _searches(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"{path}: cannot be read: {error}; restore it, or delete it and run `bench tune` again"
        ) from None


@lru_cache
def _searches(path: Path, text: str) -> dict[str, Choice]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}; {RESTORE}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected: rules with their trials, found {content!r:.40}")
    return {rule: parse(Choice, choice, f"{path}: {rule}") for rule, choice in content.items()}


def tuned(model: str, scale: str, results: Path = COMMITTED) -> dict[str, dict[str, float]]:
    """The chosen settings per rule: those of `results`, or those of `COMMITTED` for rules that were not tuned there."""
    found = searches(model, scale, COMMITTED) | searches(model, scale, results)
    return {rule: choice.chosen for rule, choice in found.items()}


def configure(
    model: str,
    rule: str,
    scale: str,
    *,
    dataset: str | list[str] | None = None,
    choose: Callable[[str | list[str]], str] = resolve,
    results: Path | None = COMMITTED,
    **overrides: Any,
) -> Config:
    """The configuration of a run: the protocol, then the rule's tuned settings, then `overrides`.

    `dataset` may name alternatives in order, one of which `choose` selects: by default the first one present. Tuned
    settings come from the folder `results`, see `tuned`; None ignores them. Raises `UsageError` for anything that does
    not exist.
    """
    if rule not in RULES.names():
        raise unknown("rule", rule, RULES.names())
    found = protocol(model, scale)
    chosen = tuned(model, scale, results).get(rule, {}) if results else {}
    settings = found.settings | found.rules.get(rule, {}) | chosen
    values = {"model": model, "rule": rule, "dataset": choose(dataset or found.datasets), **settings, **overrides}
    if RULES.declared(rule, "ranked") and values.get("rank") is None:
        values["rank"] = "full"
    return parse(Config, values, f"settings of {model} at scale {scale}")


def departures(config: Config, scale: str, results: Path) -> dict[str, Any]:
    """Where a configuration differs from its rule's configuration at `scale`, for the same rank, data and seed.

    Options are listed one by one, as for `bench run --set`: `{"model_options.width": 64}`. None marks an option of the
    protocol that is missing.
    """
    kept: dict[str, Any] = {"dataset": config.dataset, "rank": config.rank, "seed": config.seed}
    standard = _flat(configure(config.model, config.rule, scale, choose=str, results=results, **kept))
    own = _flat(config)
    return {key: own.get(key) for key in sorted(own | standard) if own.get(key) != standard.get(key)}


def _flat(config: Config) -> dict[str, Any]:
    values = asdict(config)
    options = {f"{name}.{key}": v for name in ("model_options", "rule_options") for key, v in values.pop(name).items()}
    return values | options
