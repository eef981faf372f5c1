"""Chooses each rule's settings on the validation split, every rule with the same small budget.

The trials of every rule are the same points: a Sobol sequence over the logarithms of learning rate, decay and feedback
rate (Bergstra and Bengio 2012 on random search). Rules whose feedback has no rate of its own leave that one at 1.
"""

import json
from collections.abc import Callable
from typing import Any

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


def trials(model: str, scale: str, rule: str, dataset: str | None = None) -> list[Config]:
    """The configurations that `rule` is tried with, on `dataset` or else the first of the protocol that is here.

    Raises `UsageError` where nothing is tuned at the scale.
    """
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
            dataset=dataset,
            chosen=False,
            rank=search.rank if kind.ranked else None,
            **fixed,
            **{name: float(f"{value:.2g}") for name, value in zip(searched, point[: len(searched)], strict=True)},
        )
        for point in points
    ]


def _searched(rule: str) -> list[str]:
    return ["lr", "weight_decay"] + ["feedback_rate"] * RULES.get(rule).own_feedback_rate


def choice(
    model: str, scale: str, rule: str, find: Callable[[Config], Record], dataset: str | None = None
) -> dict[str, Any]:
    """The rule's `trials`, each with its validation accuracy, and the settings of the best of them, `chosen`."""
    searched = _searched(rule)
    rows = [
        {name: getattr(config, name) for name in searched} | {"accuracy": accuracy_of(find(config))}
        for config in trials(model, scale, rule, dataset)
    ]
    best = max(rows, key=lambda row: row["accuracy"])
    return {"chosen": {name: best[name] for name in searched}, "trials": rows}


def choose(
    model: str, scale: str, rule: str, find: Callable[[Config], Record], dataset: str | None = None
) -> dict[str, float]:
    """Writes the rule's `choice` among the tuned settings of the model; returns the chosen settings."""
    content = recorded(model, scale) | {rule: choice(model, scale, rule, find, dataset)}
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    write_atomically(tuned_path(model, scale), lambda file: file.write(text.encode()))
    return content[rule]["chosen"]


def recorded(model: str, scale: str) -> dict[str, dict[str, Any]]:
    """The `choice` of each rule that was tuned, by rule."""
    path = tuned_path(model, scale)
    return json.loads(path.read_text()) if path.exists() else {}


def accuracy_of(record: Record) -> float:
    """Validation accuracy in percent; 0 for a trial that diverged."""
    return record["final"]["accuracy"] if record["status"] == "ok" else 0.0
