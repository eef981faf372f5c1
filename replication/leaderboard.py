"""The numbers to cite: a row for each setting recorded at one of the kept scales, over all experiments."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

from bench.records.runs import Runs
from bench.records.store import task_of
from bench.rules import RULES
from bench.stats import compare, mean_interval
from bench.sweeps.experiments import experiment, names
from bench.sweeps.protocols import departures
from replication.results import FOLDER, LARGEST_FIRST, Cell, recorded_scales, results
from replication.stats import Level, highest
from replication.tables import columns

DISTRIBUTION = "low-dimensional-feedback-bench"
COUNTS = ("training_flops", "feedback_parameters")
"""Columns of whole numbers, empty where no run ended."""
OF_THE_RULE = ("rule_options", "lr", "weight_decay", "feedback_rate", "feedback_decay")
"""Fields of a configuration that are chosen rule by rule; a rule and its baseline agree in the others."""


@dataclass(frozen=True)
class Entry:
    """The runs behind a row."""

    scale: str
    runs: Runs
    planned: int
    """Runs that the experiments ask for."""
    level: Level
    """How near they come to the authors' runs of any experiment that has them."""

    @cached_property
    def departures(self) -> dict[str, Any]:
        """Where the settings are not those of the protocol."""
        return departures(self.runs.config, self.scale)

    @property
    def common(self) -> tuple[str, ...]:
        """What a rule and its baseline agree in: scale, task, data, departures but for those of the rule."""
        kept = {key: value for key, value in self.departures.items() if not _of_the_rule(key)}
        return self.scale, task_of(self.runs.config.model), self.runs.config.dataset, _words(kept)

    @property
    def baseline(self) -> bool:
        """Whether it is backpropagation with the protocol's rates."""
        return self.runs.config.rule == "bp" and not any(map(_of_the_rule, self.departures))

    @property
    def place(self) -> tuple:
        """Scales, the largest first, tasks and data; then the best first."""
        scale, task, dataset, _ = self.common
        level = mean(self.runs.values.values())
        best_first = level if self.runs.regression else -level
        return LARGEST_FIRST.index(scale), task, dataset, best_first, self.runs.config.slug


def leaderboard(folder: Path = FOLDER) -> pd.DataFrame:
    """A row for each setting with valid records in `folder`: what it is, level, difference with bp, and what it costs.

    A run that several experiments share counts once. The difference is paired by seed, with bp on the same data and at
    the same settings, each rule with its own rates; its verdict is one on accuracies alone.
    """
    entries = sorted(_entries(folder), key=lambda entry: entry.place)
    baselines = {entry.common: entry for entry in entries if entry.baseline}
    rows = pd.DataFrame([_row(entry, baselines.get(entry.common)) for entry in entries])
    return rows.astype({name: "Int64" for name in COUNTS if name in rows})


def _entries(folder: Path) -> Iterator[Entry]:
    for scale in recorded_scales(folder):
        alike: defaultdict[str, list[Cell]] = defaultdict(list)
        for name in names():
            if scale in experiment(name).scales:
                for cell in results(name, scale, folder).cells:
                    alike[cell.config.digest].append(cell)
        for cells in alike.values():
            if records := {seed: record for cell in cells for seed, record in cell.records.items()}:
                planned, level = max(cell.planned for cell in cells), highest(cell.level for cell in cells)
                yield Entry(scale, Runs(cells[0].config, records), planned, level)


def _row(entry: Entry, baseline: Entry | None) -> dict[str, Any]:
    runs, config = entry.runs, entry.runs.config
    level = mean_interval(runs.values.values())
    return {
        "scale": entry.scale,
        "level": str(entry.level),
        "task": task_of(config.model),
        "dataset": config.dataset,
        "rule": config.rule,
        "rule_version": RULES.get(config.rule).version,
        "rank": config.rank,
        "setting": _words(entry.departures),
        "measure": runs.measure,
        "n": level.n,
        "n_ok": runs.ok,
        "n_planned": entry.planned,
        **columns("mean", level),
        **_against(runs, baseline.runs if baseline else None),
        "training_flops": runs.flops,
        "seconds": runs.seconds,
        "device": ", ".join(runs.devices),
        "reads_weights": runs.reads_weights,
        "reads_targets": runs.reads_targets,
        "feedback_parameters": runs.feedback_parameters,
        "benchmark": version(DISTRIBUTION),
        "source": ", ".join(runs.sources),
        "records": runs.digest,
    }


def _against(runs: Runs, bp: Runs | None) -> dict[str, Any]:
    shared = runs.paired_with(bp) if bp and bp is not runs else []
    ours, theirs = runs.values, bp.values if shared else {}
    versus = compare({seed: ours[seed] for seed in shared}, theirs)
    judged = "" if runs.regression or not shared else str(versus.verdict)
    return {
        "n_paired": len(shared),
        **columns("minus_bp", versus.interval),
        "verdict": "baseline" if bp is runs else judged,
    }


def _words(changed: dict[str, Any]) -> str:
    """Settings as `bench run --set` takes them."""
    return " ".join(f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in changed.items())


def _of_the_rule(key: str) -> bool:
    return key.partition(".")[0] in OF_THE_RULE
