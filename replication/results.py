"""An experiment's records at a scale, for claims, tables and figures: exactly the runs of its grid, never a glob."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.config import Config
from bench.data import is_drawn, parse_name, sizes
from bench.errors import UsageError
from bench.layers.ranks import Rank, parse_rank
from bench.records.runs import accuracies, values
from bench.records.store import Record, Store
from bench.stats import MIN_SEEDS
from bench.sweeps.experiments import OPTIONS, Experiment, experiment
from bench.sweeps.protocols import Scale, protocol
from replication.verdicts import Level, authors_runs, level_of

LARGEST_FIRST = ("paper", "gpu", "cpu")
"""The scales whose records are kept, the largest first."""
FOLDER = Path("results")


@dataclass(frozen=True)
class Cell:
    """One setting of an experiment over its seeds; missing runs have no record."""

    label: str
    """The setting in words, without the options of its scale: `ldfa r=10`, `ldfa B1=4`, `bp width=64`."""
    config: Config
    """The configuration of the first seed."""
    planned: int
    records: dict[int, Record]
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the network and the rule that are not those of its scale."""
    level: Level = Level.REDUCED
    needed: bool = True
    """Whether claims read it; True for all cells if no claim reads the experiment."""

    @property
    def enough(self) -> bool:
        """Whether it has enough seeds for a verdict."""
        return len(self.records) >= MIN_SEEDS

    @property
    def ok(self) -> int:
        """Number of runs that ended well."""
        return sum(record["status"] == "ok" for record in self.records.values())

    def mean(self, metric: Callable[[Record], float]) -> float | None:
        """The mean of a number over the runs that ended well; None without such a run."""
        numbers = [metric(record) for record in self.records.values() if record["status"] == "ok"]
        return fmean(numbers) if numbers else None

    @property
    def runs(self) -> str:
        """The number of runs that ended well, of those planned; others are missing, or count as chance."""
        return _runs([self])

    def values(self, metric: Callable[[Record], float], otherwise: float) -> dict[int, float]:
        """A number of each run by seed, `otherwise` for a run that diverged or failed."""
        return values(self.records, metric, otherwise)

    @property
    def accuracy(self) -> dict[int, float]:
        """Test accuracy in percent by seed; a run that diverged or failed counts as chance."""
        return accuracies(self.records, self.config.dataset)

    @property
    def rank(self) -> Rank:
        """The rank of the constrained layers; None at full rank and for rules without a rank."""
        return parse_rank((self.config.rank or "full").rpartition("=")[2])


@dataclass(frozen=True)
class Pool:
    """One setting on disjoint, equally large groups of classes of a dataset: one cell per group, in order."""

    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """The setting in words."""
        return self.cells[0].label

    @property
    def config(self) -> Config:
        """The configuration of the first seed on the first group."""
        return self.cells[0].config

    @property
    def rank(self) -> Rank:
        """The rank, as for a cell."""
        return self.cells[0].rank

    @property
    def dataset(self) -> str:
        """The dataset of the groups."""
        return parse_name(self.config.dataset)[0]

    @property
    def classes(self) -> int:
        """Number of classes in a group."""
        return sizes(self.config.dataset).outputs

    @property
    def runs(self) -> str:
        """The runs of all groups, as for a cell."""
        return _runs(self.cells)

    @property
    def accuracy(self) -> dict[int, float]:
        """Test accuracy in percent, averaged over the groups, by seed, for seeds that every group has."""
        return averaged([cell.accuracy for cell in self.cells])


@dataclass(frozen=True)
class Results:
    """The cells of an experiment at a scale, in the order of its file."""

    experiment: Experiment
    scale: str
    cells: tuple[Cell, ...]

    @property
    def recorded(self) -> int:
        """Number of runs of the grid with a valid record."""
        return sum(len(cell.records) for cell in self.cells)

    @property
    def planned(self) -> int:
        """Number of runs of the grid."""
        return sum(cell.planned for cell in self.cells)

    def cell(self, rule: str, rank: str | None = None, dataset: str | None = None, **options: Any) -> Cell:
        """The cell of a rule at a rank, on `dataset` if given, with `options` and otherwise those of its scale.

        Raises `UsageError` if the grid has none.
        """
        wanted = rule, rank, options
        for cell in self.cells:
            if (cell.config.rule, cell.config.rank, cell.options) == wanted and dataset in (None, cell.config.dataset):
                return cell
        where = f"experiment {self.experiment.name!r} at scale {self.scale}"
        asked = " ".join(filter(None, [rule, rank, *(f"{k}={v}" for k, v in options.items()), dataset]))
        raise UsageError(f"{where} has no setting {asked}; expected: {', '.join(c.label for c in self.cells)}")

    @property
    def baseline(self) -> dict[int, float]:
        """Test accuracy by seed of the first `bp` with the options of the scale; empty if the grid has none."""
        return next((cell.accuracy for cell in self._bp if not cell.options), {})

    def baseline_of(self, cell: Cell) -> dict[int, float]:
        """Test accuracy by seed of `bp` on the data of a cell: on the network of a rule's cell, if the grid has it,
        else with the options of the scale; empty if the grid has neither.
        """
        alike = None if cell.config.rule == "bp" else self.bp_on_network_of(cell)
        found = alike or self.plain_bp(cell.config.dataset)
        return found.accuracy if found else {}

    def plain_bp(self, dataset: str) -> Cell | None:
        """The cell of `bp` on a dataset with the options of the scale; None if the grid has none."""
        return next((cell for cell in self._bp if cell.config.dataset == dataset and not cell.options), None)

    def bp_on_network_of(self, cell: Cell) -> Cell | None:
        """The cell of `bp` on the same data and network as `cell`; None if the grid has none."""

        def task(each: Cell) -> tuple[str, dict[str, Any]]:
            return each.config.dataset, each.config.model_options

        return next((each for each in self._bp if task(each) == task(cell)), None)

    @property
    def _bp(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.config.rule == "bp"]

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The cells, with those of the same setting on different groups of equally many classes combined."""
        return pooled(self.cells)

    def accuracy(self, rule: str, rank: str | None = None, **options: Any) -> dict[int, float]:
        """Test accuracy by seed of a `cell`."""
        return self.cell(rule, rank, **options).accuracy


def training_accuracy(record: Record) -> float:
    """Training accuracy in percent over the last epoch; NaN for a regression."""
    return record["history"][-1].get("accuracy", math.nan)


def pooled(cells: Iterable[Cell]) -> tuple[Pool, ...]:
    """The cells, with those of the same setting on different groups of equally many classes combined."""
    pools: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        setting = cell.config.model, cell.label, cell.config.dataset.partition("@")[0]
        pools.setdefault(setting, []).append(cell)
    return tuple(Pool(tuple(group)) for group in pools.values())


def averaged(by_group: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """A number by seed, averaged over groups, for the seeds that every group has."""
    seeds = set(by_group[0]).intersection(*by_group[1:])
    return {seed: fmean(group[seed] for group in by_group) for seed in sorted(seeds)}


def mixture(cells: Iterable[Cell]) -> str:
    """Why the records of cells cannot be judged together; empty if they can."""
    ended = [record for cell in cells for record in cell.records.values() if "data" in record]
    devices = sorted({processor(record["device"]) for record in ended})
    if len(devices) > 1:
        return f"runs on {' and '.join(devices)} are mixed"
    sources: dict[str, dict] = {}
    for record in ended:
        name, sha256 = record["data"]["name"], record["data"]["sha256"]
        drawn = is_drawn(name)
        if sources.setdefault(f"{name} {record['config']['seed']}" if drawn else name, sha256) != sha256:
            return f"runs on {name} of different checksums are mixed"
    return ""


def processor(device: dict[str, Any]) -> str:
    """What runs that are judged together must share: the GPU model, or "cpu"."""
    return device["name"] if device["type"] == "cuda" else device["type"]


def _runs(cells: Sequence[Cell]) -> str:
    ok = sum(cell.ok for cell in cells)
    lost = sum(len(cell.records) for cell in cells) - ok
    return f"{ok} of {sum(cell.planned for cell in cells)}" + (f", {lost} diverged or failed" if lost else "")


@cache
def results(name: str, scale: str, folder: Path = FOLDER) -> Results:
    """The records of the experiment `name` at `scale`. Raises `UsageError` if either does not exist."""
    return results_of(experiment(name), scale, folder)


def results_of(found: Experiment, scale: str, folder: Path) -> Results:
    """The records of an experiment at `scale`. Raises `UsageError` if it has no such scale."""
    if scale not in found.scales:
        raise UsageError(f"experiment {found.name!r} has no scale {scale}; expected: {', '.join(found.scales)}")
    store = Store(folder / scale)
    standard, authors = protocol(found.model, scale), authors_runs(found)
    runs = found.recorded(scale, store)
    needed = {config.digest for configs in found.plans(scale, folder, needed=True) for config in configs}
    cells = []
    for _, group in groupby(runs, key=lambda run: replace(run[0], seed=0)):
        here = list(group)
        config = here[0][0]
        own = _own_options(config, standard)
        records = {run.seed: record for run, record in here if record is not None}
        cells.append(
            Cell(
                label=replace(config, model_options=own["model_options"], rule_options=own["rule_options"]).setting,
                config=config,
                planned=len(here),
                records=records,
                options=own["model_options"] | own["rule_options"],
                level=level_of(config, authors),
                needed=config.digest in needed,
            )
        )
    return Results(found, scale, tuple(cells))


def _own_options(config: Config, standard: Scale) -> dict[str, dict[str, Any]]:
    """The options of the network and of the rule that are not those of the protocol."""
    settings = standard.settings | standard.rules.get(config.rule, {})
    return {
        kind: {k: v for k, v in getattr(config, kind).items() if k not in (s := settings.get(kind, {})) or s[k] != v}
        for kind in OPTIONS
    }


def recorded_scales(folder: Path = FOLDER) -> list[str]:
    """The scales that have records, the largest first."""
    return [scale for scale in LARGEST_FIRST if (folder / scale / "records").exists()]


def largest(name: str, folder: Path = FOLDER) -> Results | None:
    """The records at the largest scale with all needed runs, else at the most complete scale; None without records."""
    scales = [scale for scale in recorded_scales(folder) if scale in experiment(name).scales]
    candidates = [found for scale in scales if (found := results(name, scale, folder)).recorded]
    return max(candidates, key=_completeness, default=None)


def _completeness(found: Results) -> float:
    needed = [cell for cell in found.cells if cell.needed]
    return sum(len(cell.records) for cell in needed) / sum(cell.planned for cell in needed)
