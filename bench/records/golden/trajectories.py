"""Golden trajectories: they keep records valid while the code changes.

Every built-in network has fixed tiny runs in float64, one for each built-in rule, whose losses and norms are committed:
`<network>/<run>.json`, and in `<network>.json` the `version` of the network and of each of the `rules` above 1. Code
that reproduces them keeps every record valid; code that moves them on purpose raises the version of a rule or a
network. `python -m bench.records.golden` then rewrites the trajectories of that rule or network, and adds those of a
new one.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bench.config import Config
from bench.errors import UsageError
from bench.files import write_text
from bench.models import MODELS
from bench.records.golden.runs import BASE, configs
from bench.rules import RULES
from bench.training.loop import train

FOLDER = Path(__file__).parent
TOLERANCE = 1e-6
"""Relative tolerance. Threads move the numbers by 1e-15; instruction sets by 2e-8, as initial values are in float32."""
WRITE = "run python -m bench.records.golden"

Trajectory = dict[str, float]


class Golden(NamedTuple):
    """The committed trajectories of a network. `version` is None if there are none; `rules` has versions above 1."""

    version: int | None
    rules: dict[str, int]
    tolerance: float
    runs: dict[str, Trajectory]


def trajectory(config: Config) -> Trajectory:
    """Losses of the first steps, final norms of weights and feedback, the test and the last log entry.

    Lists in the log are rounded and therefore left out: rounding magnifies differences in the last digits.
    """
    outcome = train(config)
    losses = {f"loss of step {step}": loss for step, loss in enumerate(outcome.first_losses, 1)}
    norms = {
        f"norm of {label}.{name}": tensor.norm().item()
        for label, layer in outcome.learner.layers.items()
        for name, tensor in [("W", layer.weight), *layer.feedback.items()]
    }
    test = {f"test {name}": value for name, value in outcome.final.items()}
    log = {f"last {name}": value for name, value in outcome.history[-1].items() if not isinstance(value, list)}
    return losses | norms | test | log


def check(models: Iterable[str] | None = None) -> list[str]:
    """Repeats the golden runs of `models`, all if None. Returns a line for each whose numbers moved or are missing."""
    problems = []
    for model in MODELS.built_in() if models is None else models:
        golden, version = _read(model), MODELS.get(model).version
        if model not in BASE:
            problems.append(f"{model}: no golden run is defined")
        elif golden.version != version:
            problems.append(f"{model}: version {version}, golden trajectories {golden.version}; {WRITE}")
        else:
            found, runs, raised = _rerun(model), golden.runs, _raised(model, golden)
            problems += [f"{model}/{name}: no golden trajectory; {WRITE}" for name in found if name not in runs]
            problems += [f"{model}/{name}: no such run; {WRITE}" for name in runs if name not in found]
            problems += [f"{model}/{name}: {versions}; {WRITE}" for name, versions in raised.items() if name in runs]
            problems += _moves(model, golden, {name: found[name] for name in found if name not in raised})
    return problems


def write() -> None:
    """Writes missing trajectories, and all of a network or rule whose version was raised; keeps the others.

    Raises `UsageError` if numbers moved but neither version did.
    """
    for model in BASE:
        golden, found, version = _read(model), _rerun(model), MODELS.get(model).version
        stands = found.keys() - _raised(model, golden) if golden.version == version else set()
        kept = {name: trajectory for name, trajectory in golden.runs.items() if name in stands}
        if moves := _moves(model, golden, {name: found[name] for name in kept}):
            raise UsageError(moves[0])
        for name in golden.runs.keys() - found:
            _path(model, name).unlink()
        for name in found.keys() - kept:
            _write(_path(model, name), found[name])
        rules = {config.rule: RULES.get(config.rule).version for config in configs(model).values()}
        above = {rule: rules[rule] for rule in sorted(rules) if rules[rule] > 1}
        _write(_path(model), {"version": version, "tolerance": TOLERANCE, "rules": above})


def _raised(model: str, golden: Golden) -> dict[str, str]:
    """The runs whose rule has a different version than their golden trajectory, each with both versions."""
    rules = {name: config.rule for name, config in configs(model).items()}
    versions = {rule: (RULES.get(rule).version, golden.rules.get(rule, 1)) for rule in set(rules.values())}
    return {
        name: f"version {versions[rule][0]} of {rule}, golden trajectory {versions[rule][1]}"
        for name, rule in rules.items()
        if len(set(versions[rule])) > 1
    }


def _path(model: str, run: str | None = None) -> Path:
    return FOLDER / f"{model}.json" if run is None else FOLDER / model / f"{run}.json"


def _read(model: str) -> Golden:
    settings = json.loads(_path(model).read_text()) if _path(model).exists() else {}
    runs = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / model).glob("*.json"))}
    return Golden(settings.get("version"), settings.get("rules", {}), settings.get("tolerance", TOLERANCE), runs)


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=0) + "\n"
    write_text(path, text)


def _rerun(model: str) -> dict[str, Trajectory]:
    return {
        name: {what: float(f"{number:.12g}") for what, number in trajectory(config).items()}
        for name, config in configs(model).items()
    }


def _moves(model: str, golden: Golden, found: dict[str, Trajectory]) -> list[str]:
    """For each run present in both, the first number that moved."""
    lines = []
    for name in [name for name in found if name in golden.runs]:
        expected, numbers = golden.runs[name], found[name]
        for what in expected | numbers:
            old, new = expected.get(what, math.nan), numbers.get(what, math.nan)
            if not math.isclose(new, old, rel_tol=golden.tolerance):
                owners = (
                    f"{RULES.get(configs(model)[name].rule).__name__}.version or {MODELS.get(model).__name__}.version"
                )
                moved = f"{what} is {new:.9g}, golden {old:.9g}: the numbers moved"
                lines.append(f"{model}/{name}: {moved}; raise {owners} if on purpose")
                break
    return lines
