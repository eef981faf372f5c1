"""The leaderboard, the numbers to cite: one row per recorded setting over all experiments."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

import bench
from bench.config import Config
from bench.models import MODELS
from bench.records.runs import Runs
from bench.records.store import task_of
from bench.rules import RULES
from bench.stats import compare, mean_interval
from bench.sweeps.experiments import experiment, names
from bench.sweeps.protocols import SCALES, departures
from replication.results import FOLDER, Cell, recorded_scales, results
from replication.tables import columns
from replication.verdicts import MEASURES, Level, highest

COUNTS = ("training_flops", "feedback_parameters")
"""Integer columns, empty if no run ended."""
OF_THE_RULE = ("rule_options", "lr", "weight_decay", "feedback_rate", "feedback_decay")
"""Fields of a configuration that are chosen per rule; a rule and its baseline agree in all others."""


@dataclass(frozen=True)
class Entry:
    """The runs behind a row."""

    scale: str
    runs: Runs
    planned: int
    """Number of runs that the experiments plan."""
    level: Level
    """The closest level to the authors' runs over all experiments that have them."""
    folder: Path
    """The results folder, whose tuned settings belong to the protocol."""

    @cached_property
    def variant(self) -> str:
        """The settings shared by a rule and its baseline that differ from the protocol."""
        return _words({key: value for key, value in self._departures.items() if not _of_the_rule(key)})

    @cached_property
    def setting(self) -> str:
        """The settings chosen per rule that differ from the protocol."""
        return _words({key: value for key, value in self._departures.items() if _of_the_rule(key)})

    @cached_property
    def _departures(self) -> dict[str, Any]:
        cadence = _cadence(self.runs.config)
        found = departures(self.runs.config, self.scale, self.folder)
        return {key: value for key, value in found.items() if key not in cadence}

    @property
    def block(self) -> tuple[str, str, str, str]:
        """Scale, task, data and variant, which a rule and its baseline share."""
        return self.scale, task_of(self.runs.config.model), self.runs.config.dataset, self.variant

    @property
    def baseline(self) -> bool:
        """Whether it is backpropagation with the protocol's rates."""
        return self.runs.config.rule == "bp" and not self.setting

    @property
    def place(self) -> tuple:
        """Sort key: largest scale first, then the other parts of the block; within a block the best first."""
        _, *block = self.block
        result = mean(self.runs.values.values())
        best_first = result if self.runs.regression else -result
        return -SCALES.index(self.scale), *block, best_first, self.runs.config.slug


def leaderboard(folder: Path = FOLDER) -> pd.DataFrame:
    """The rows of the settings recorded at the kept scales in `folder`."""
    return table(entries(folder, recorded_scales(folder)))


def entries(folder: Path, scales: Iterable[str]) -> list[Entry]:
    """The settings with valid records in `folder`, in the order of their rows.

    A run that several experiments share counts once. How often a run is measured is not a setting: of two runs of a
    seed that differ only in this, the one with the protocol's cadence counts.
    """
    return sorted(_entries(folder, scales), key=lambda entry: entry.place)


def table(found: Sequence[Entry]) -> pd.DataFrame:
    """One row per entry: setting, level, mean, difference from bp, and cost.

    The difference is paired by seed with bp on the same data and with the same settings, each rule with its own rates;
    it has a verdict for accuracies only.
    """
    baselines = {entry.block: entry for entry in found if entry.baseline}
    rows = pd.DataFrame([_row(entry, baselines.get(entry.block)) for entry in found])
    return rows.astype({name: "Int64" for name in COUNTS if name in rows})


def _entries(folder: Path, scales: Iterable[str]) -> Iterator[Entry]:
    for scale in scales:
        alike: defaultdict[str, list[Cell]] = defaultdict(list)
        for name in names():
            if scale in experiment(name).scales:
                for cell in results(name, scale, folder).cells:
                    alike[replace(cell.config, **_cadence(cell.config)).digest].append(cell)
        for cells in alike.values():
            cells.sort(key=lambda cell: not departures(cell.config, scale, folder).keys() & MEASURES.keys())
            if records := {seed: record for cell in cells for seed, record in cell.records.items()}:
                planned, level = max(cell.planned for cell in cells), highest(cell.level for cell in cells)
                yield Entry(scale, Runs(cells[-1].config, records), planned, level, folder)


def _cadence(config: Config) -> dict[str, Any]:
    """The fields that set how often a run is measured, at their defaults.

    `log_every` is not one of them for a regression, whose final loss is a mean since the entry before the last.
    """
    regression = MODELS.get(config.model).regression
    return {name: default for name, default in MEASURES.items() if not (regression and name == "log_every")}


def _row(entry: Entry, baseline: Entry | None) -> dict[str, Any]:
    runs, config = entry.runs, entry.runs.config
    level = mean_interval(runs.values.values())
    return {
        "scale": entry.scale,
        "level": str(entry.level),
        "task": task_of(config.model),
        "dataset": config.dataset,
        "variant": entry.variant,
        "rule": config.rule,
        "rule_version": RULES.get(config.rule).version,
        "rank": config.rank,
        "setting": entry.setting,
        "measure": runs.measure,
        "n": level.n,
        "n_ok": runs.ok,
        "n_planned": entry.planned,
        **columns("mean", level),
        **_against(runs, baseline.runs if baseline else None),
        "training_flops": runs.flops,
        "seconds": runs.seconds,
        "device": runs.device,
        "reads_weights": runs.reads_weights,
        "reads_targets": runs.reads_targets,
        "feedback_parameters": runs.feedback_parameters,
        "benchmark": bench.__version__,
        "source": ", ".join(runs.sources),
        "records": runs.digest,
    }


def _against(runs: Runs, bp: Runs | None) -> dict[str, Any]:
    shared = runs.paired_with(bp) if bp and bp is not runs else []
    ours, theirs = runs.values, bp.values if bp and shared else {}
    versus = compare({seed: ours[seed] for seed in shared}, theirs)
    judged = "" if runs.regression or not shared else str(versus.verdict)
    return {
        "n_paired": len(shared),
        **columns("minus_bp", versus.interval),
        "verdict": "baseline" if bp is runs else judged,
    }


def _words(changed: dict[str, Any]) -> str:
    """Settings in the format of `bench run --set`."""
    return " ".join(f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in changed.items())


def _of_the_rule(key: str) -> bool:
    return key.partition(".")[0] in OF_THE_RULE
