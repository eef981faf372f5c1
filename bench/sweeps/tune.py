"""Chooses each rule's settings on the validation split, with the same small budget of trials for every rule.

A search has two rounds, over the logarithms of learning rate, decay and feedback rate. The first spreads its trials
over the protocol's ranges in a Sobol sequence, at the same points for every rule (Bergstra and Bengio 2012 on random
search). The second spreads its trials over a box half as wide around the best of them, which may extend beyond the
ranges. Rules whose feedback has no separate rate keep it at 1. A trial takes a third of a run, on the run's schedule.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from bench.config import UNMEASURED, Config
from bench.data import resolve
from bench.errors import UsageError
from bench.files import locked, write_text
from bench.records.store import Record, Store
from bench.rules import RULES
from bench.sweeps.experiments import tuning_of
from bench.sweeps.missing import is_final
from bench.sweeps.protocols import SEARCHED, Choice, configure, protocol, searches, tuned_path

ROUNDS = (10, 6)
"""Trials per round."""
WIDTH = 0.5
"""Width of the second round's box relative to the first's, in the logarithm."""
SHARE = 1 / 3
"""Length of a trial relative to a run."""

Find = Callable[[Config], Record | None]


def finder(model: str, store: Store) -> Find:
    """Finds the record of a trial of `model`, None if it has none."""
    return lambda config: store.find(config, [tuning_of(model)])


def trials(
    model: str, scale: str, rule: str, find: Find = lambda config: None, dataset: str | None = None
) -> list[list[Config]]:
    """The rounds known so far: the second only when `find` has a final record of every trial of the first.

    Uses `dataset`, whether it is present or not, or the protocol's first dataset that is present. Raises `UsageError`
    if nothing is tuned at the scale.
    """
    found = protocol(model, scale)
    if found.tune is None:
        raise UsageError(f"--scale {scale}: nothing is tuned for model {model!r} at this scale")
    kind, fixed = RULES.get(rule), _schedule(found.settings | found.rules.get(rule, {}))
    names = SEARCHED if kind.own_feedback_rate else SEARCHED[:-1]
    rank = found.tune.rank if kind.ranked else None
    ranges = np.log([getattr(found.tune, name) for name in names]).T
    choose = (lambda datasets: dataset) if dataset else resolve

    def configs(number: int, centre: np.ndarray, width: np.ndarray) -> list[Config]:
        points = np.exp(centre + width * (_points(number)[:, : len(names)] - 0.5))
        settings: list[dict[str, Any]] = [
            {name: float(f"{x:.2g}") for name, x in zip(names, point, strict=True)} for point in points
        ]
        return [
            configure(model, rule, scale, choose=choose, results=None, rank=rank, **fixed, **setting)
            for setting in settings
        ]

    first = configs(0, ranges.mean(axis=0), np.ptp(ranges, axis=0))
    ended = [record for config in first if is_final(record := find(config))]
    if len(ended) < len(first):
        return [first]
    best = first[_best(first, ended)]
    return [first, configs(1, np.log([getattr(best, name) for name in names]), WIDTH * np.ptp(ranges, axis=0))]


def _schedule(settings: dict[str, Any]) -> dict[str, Any]:
    """Length and learning rates of a trial: a run's whole schedule in a third of its epochs."""
    epochs = math.ceil(settings["epochs"] * SHARE)
    fixed: dict[str, Any] = {"epochs": epochs, "split": "validation"}
    fixed |= {name: getattr(Config, name) for name in UNMEASURED if name in settings}
    if "gamma" in settings:
        fixed["gamma"] = float(f"{settings['gamma'] ** (settings['epochs'] / epochs):.3g}")
    if settings.get("warmup"):
        fixed["warmup"] = max(1, round(settings["warmup"] * epochs / settings["epochs"]))
    return fixed


def _points(number: int) -> np.ndarray:
    """The points of a round in the unit cube, (trials, searched): the first points of a scrambled Sobol sequence."""
    size = ROUNDS[number]
    return qmc.Sobol(d=len(SEARCHED), rng=number).random_base2(math.ceil(math.log2(size)))[:size]


def _best(configs: list[Config], records: list[Record]) -> int:
    """Index of the best trial: by accuracy, then by lower loss, then by lower learning rate.

    If all diverged, the search therefore continues at lower rates.
    """

    def merit(n: int) -> tuple[float, float, float]:
        loss = records[n]["final"]["loss"] if records[n]["status"] == "ok" else math.inf
        return accuracy_of(records[n]), -loss, -configs[n].lr

    return max(range(len(configs)), key=merit)


def where_tuned(model: str, scale: str, rule: str, find: Find) -> str:
    """The protocol's dataset on which most trials of a rule have a final record; the first if none has any."""

    def recorded(dataset: str) -> int:
        rounds = trials(model, scale, rule, find, dataset)
        return sum(is_final(find(config)) for of_round in rounds for config in of_round)

    return max(protocol(model, scale).datasets, key=recorded)


def choice(model: str, scale: str, rule: str, find: Find, dataset: str | None = None) -> Choice:
    """The rule's `trials`, all of them complete, each with its accuracy, and the settings of the best one.

    Raises `UsageError` if every trial diverged.
    """
    rounds = trials(model, scale, rule, find, dataset)
    configs = [config for of_round in rounds for config in of_round]
    records = [record for config in configs if is_final(record := find(config))]
    if not any(record["status"] == "ok" for record in records):
        raise UsageError(f"every trial of {rule} diverged, so nothing is chosen: lower lr in the protocol of {model}")
    names = SEARCHED if RULES.get(rule).own_feedback_rate else SEARCHED[:-1]
    settings = [{name: getattr(config, name) for name in names} for config in configs]
    numbers = [number for number, of_round in enumerate(rounds, 1) for _ in of_round]
    rows = [
        setting | {"accuracy": accuracy_of(record), "round": number}
        for setting, record, number in zip(settings, records, numbers, strict=True)
    ]
    return Choice(settings[_best(configs, records)], rows)


def choose(model: str, scale: str, rule: str, find: Find, results: Path, dataset: str | None = None) -> Choice:
    """Writes the rule's `choice` to the model's tuned settings below `results`."""
    found, path = choice(model, scale, rule, find, dataset), tuned_path(model, scale, results)
    with locked(path.parent):
        content = {name: asdict(other) for name, other in (searches(model, scale, results) | {rule: found}).items()}
        write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return found


def accuracy_of(record: Record) -> float:
    """Validation accuracy in percent; 0 for a trial that diverged."""
    return record["final"]["accuracy"] if record["status"] == "ok" else 0.0
