"""Chooses each rule's settings on the validation split, every rule with the same small budget.

The trials of every rule are the same points: a Sobol sequence over the logarithms of learning rate, decay and feedback
rate (Bergstra and Bengio 2012 on random search). Rules whose feedback has no rate of its own leave that one at 1.
"""

import json
from collections.abc import Callable

import numpy as np
from scipy.stats import qmc

from bench.config import Config
from bench.errors import UsageError
from bench.files import write_atomically
from bench.protocols import configure, protocol, tuned_path
from bench.records import Record
from bench.rules import RULES

TRIALS = 8
EXPERIMENT = "tune-{model}"


def trials(model: str, scale: str, rule: str) -> list[Config]:
    """The configurations that `rule` is tried with. Raises `UsageError` where nothing is tuned at the scale."""
    found = protocol(model, scale)
    search = found.tune
    if search is None:
        raise UsageError(f"--scale {scale}: nothing is tuned for model {model!r} at this scale")
    kind, searched = RULES.get(rule), _searched(rule)
    low, high = np.log([getattr(search, name) for name in ("lr", "weight_decay", "feedback_rate")]).T
    points = np.exp(qmc.scale(qmc.Sobol(d=3, rng=0).random(TRIALS), low, high))
    fixed = {"epochs": search.epochs, "split": "validation"}
    if "gamma" in found.settings:
        gamma = found.settings["gamma"] ** (found.settings["epochs"] / search.epochs)
        fixed["gamma"] = float(f"{gamma:.3g}")
    return [
        configure(
            model,
            rule,
            scale,
            chosen=False,
            rank=search.rank if kind.ranked else None,
            **fixed,
            **{name: float(f"{value:.2g}") for name, value in zip(searched, point[: len(searched)], strict=True)},
        )
        for point in points
    ]


def _searched(rule: str) -> list[str]:
    return ["lr", "weight_decay"] + ["feedback_rate"] * RULES.get(rule).own_feedback_rate


def choose(model: str, scale: str, rule: str, find: Callable[[Config], Record]) -> dict[str, float]:
    """Writes the rule's trials and the best of them by validation accuracy; returns the chosen settings."""
    configs = trials(model, scale, rule)
    searched = _searched(rule)
    rows = [
        {name: getattr(config, name) for name in searched} | {"accuracy": accuracy_of(find(config))}
        for config in configs
    ]
    best = max(rows, key=lambda row: row["accuracy"])
    chosen = {name: best[name] for name in searched}
    path = tuned_path(model, scale)
    content = json.loads(path.read_text()) if path.exists() else {}
    content[rule] = {"chosen": chosen, "trials": rows}
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
    return chosen


def accuracy_of(record: Record) -> float:
    """Validation accuracy in percent; 0 for a trial that diverged."""
    return record["final"]["accuracy"] if record["status"] == "ok" else 0.0
