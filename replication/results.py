"""An experiment's records at a scale, as claims, tables and figures see them: the runs of the grid, never a glob."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from statistics import fmean

from bench.config import Config
from bench.data import is_drawn, parse_name, sizes
from bench.experiments import Experiment, experiment
from bench.protocols import protocol
from bench.ranks import Rank, parse_rank
from bench.records import Record, Store
from bench.runs import chance

LARGEST_FIRST = ("paper", "gpu", "cpu")
"""The scales whose records are kept."""
FOLDER = Path("results")


@dataclass(frozen=True)
class Cell:
    """One setting of an experiment over its seeds; a run that is missing has no record here."""

    label: str
    """The setting in words, without the options of its scale: `ldfa r=10`, `ldfa B1=4`, `bp width=64`."""
    config: Config
    """That of the first seed."""
    planned: int
    records: dict[int, Record]

    @property
    def ok(self) -> int:
        """Runs that ended well."""
        return sum(record["status"] == "ok" for record in self.records.values())

    @property
    def runs(self) -> str:
        """How many runs ended well, of how many; the others are missing, or count as chance."""
        return _runs([self])

    def values(self, metric: Callable[[Record], float], otherwise: float) -> dict[int, float]:
        """A number of each run by seed, `otherwise` for a run that diverged or failed."""
        return {seed: metric(r) if r["status"] == "ok" else otherwise for seed, r in self.records.items()}

    @property
    def accuracy(self) -> dict[int, float]:
        """Test accuracy in percent by seed; a run that diverged or failed counts as chance."""
        return self.values(lambda record: record["final"]["accuracy"], chance(self.config.dataset))

    @property
    def rank(self) -> Rank:
        """The rank of the layers that are constrained; None at full rank and for rules without one."""
        return parse_rank((self.config.rank or "full").rpartition("=")[2])


@dataclass(frozen=True)
class Pool:
    """One setting on the disjoint groups of as many classes of a dataset: a cell a group, in their order."""

    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """The setting in words."""
        return self.cells[0].label

    @property
    def config(self) -> Config:
        """That of the first seed on the first group."""
        return self.cells[0].config

    @property
    def rank(self) -> Rank:
        """As that of a cell."""
        return self.cells[0].rank

    @property
    def dataset(self) -> str:
        """The dataset that the groups are of."""
        return parse_name(self.config.dataset)[0]

    @property
    def classes(self) -> int:
        """Classes of a group."""
        return sizes(self.config.dataset).outputs

    @property
    def runs(self) -> str:
        """Runs of all groups, as those of a cell."""
        return _runs(self.cells)

    @property
    def accuracy(self) -> dict[int, float]:
        """Mean test accuracy in percent over the groups, by seed, of the seeds that every group has."""
        by_group = [cell.accuracy for cell in self.cells]
        seeds = set(by_group[0]).intersection(*by_group[1:])
        return {seed: fmean(accuracies[seed] for accuracies in by_group) for seed in sorted(seeds)}


@dataclass(frozen=True)
class Results:
    """The cells of an experiment at a scale, in the order of its file."""

    experiment: Experiment
    scale: str
    cells: tuple[Cell, ...]

    @property
    def recorded(self) -> int:
        """Runs of the grid that have a valid record."""
        return sum(len(cell.records) for cell in self.cells)

    @property
    def planned(self) -> int:
        """Runs of the grid."""
        return sum(cell.planned for cell in self.cells)

    @property
    def defect(self) -> str:
        """Why the records cannot be judged together; empty where they can, or where there are none."""
        if not self.recorded:
            return ""
        if missing := self.planned - self.recorded:
            return f"{missing} of {self.planned} runs have no valid record"
        ended = [record for cell in self.cells for record in cell.records.values() if "data" in record]
        devices = sorted({record["device"]["type"] for record in ended})
        if len(devices) > 1:
            return f"runs on {' and '.join(devices)} are mixed"
        sources: dict[str, dict] = {}
        for record in ended:
            name, sha256 = record["data"]["name"], record["data"]["sha256"]
            drawn = is_drawn(name)
            if sources.setdefault(f"{name} {record['config']['seed']}" if drawn else name, sha256) != sha256:
                return f"runs on {name} of different checksums are mixed"
        return ""

    def cell(self, label: str, dataset: str | None = None) -> Cell | None:
        """The cell called `label`, on `dataset` if given; None where the grid has none."""
        found = [c for c in self.cells if c.label == label and dataset in (None, c.config.dataset)]
        return found[0] if found else None

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The cells with those of one setting on other groups of as many classes put together."""
        pools: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            pools.setdefault((cell.label, cell.config.dataset.partition("@")[0]), []).append(cell)
        return tuple(Pool(tuple(cells)) for cells in pools.values())

    def accuracy(self, label: str) -> dict[int, float]:
        """Test accuracy by seed of the cell called `label`; empty where there is none."""
        cell = self.cell(label)
        return cell.accuracy if cell else {}


def _runs(cells: Sequence[Cell]) -> str:
    ok = sum(cell.ok for cell in cells)
    lost = sum(len(cell.records) for cell in cells) - ok
    return f"{ok} of {sum(cell.planned for cell in cells)}" + (f", {lost} diverged or failed" if lost else "")


@cache
def results(name: str, scale: str, folder: Path = FOLDER) -> Results:
    """The records of the experiment `name` at `scale`. Raises `UsageError` where either does not exist."""
    return results_of(experiment(name), scale, folder)


def results_of(found: Experiment, scale: str, folder: Path) -> Results:
    """The records of an experiment at `scale`. Raises `UsageError` where it has no such scale."""
    store = Store(folder / scale)
    standard = protocol(found.model, scale).settings.get("model_options", {})
    cells = []
    for _, group in groupby(found.recorded(scale, store), key=lambda run: replace(run[0], seed=0)):
        runs = list(group)
        config = runs[0][0]
        options = {key: value for key, value in config.model_options.items() if standard.get(key) != value}
        records = {run.seed: record for run, record in runs if record is not None}
        cells.append(Cell(replace(config, model_options=options).setting, config, len(runs), records))
    return Results(found, scale, tuple(cells))


def recorded_scales(folder: Path = FOLDER) -> list[str]:
    """The scales that have records, the largest first."""
    return [scale for scale in LARGEST_FIRST if (folder / scale / "records").exists()]


def largest(name: str, folder: Path = FOLDER) -> Results | None:
    """The records at the largest scale whose runs are all there, else at the most complete; None without records."""
    scales = [scale for scale in LARGEST_FIRST if scale in experiment(name).scales]
    candidates = [found for scale in scales if (found := results(name, scale, folder)).recorded]
    return max(candidates, key=lambda found: found.recorded / found.planned, default=None)
