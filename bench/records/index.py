"""Which runs have a record, from one pass over the files and without keeping the records in memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.config import Config
from bench.records.store import Record, Store, read_all


@dataclass(frozen=True)
class Index:
    """How the recorded runs of some experiments ended, and for each file that is not a valid record, the reason."""

    statuses: dict[tuple[str, str], str] = field(default_factory=dict)
    """Status by experiment and digest of the configuration."""
    refused: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, experiments: Iterable[str]) -> "Index":
        """The index of all files of `experiments`."""
        index = cls()
        for experiment in experiments:
            for path, record in read_all(store.paths(experiment), index.refused):
                index.add(path, record)
        return index

    def add(self, path: Path, record: Record) -> None:
        """Adds a valid record."""
        self.statuses[path.parent.name, record["digest"]] = record["status"]

    def status(self, config: Config, experiments: Sequence[str]) -> str | None:
        """How the run of a configuration ended, from the first of `experiments` in which it did; None if in none."""
        digest = config.digest
        found = [status for name in experiments if (status := self.statuses.get((name, digest)))]
        return next((status for status in found if not is_missing(status)), found[0] if found else None)

    def missing(self, configs: Iterable[Config], experiments: Sequence[str]) -> list[Config]:
        """Those of `configs` that still have to run: without a record, or failed."""
        return [config for config in configs if is_missing(self.status(config, experiments))]


def is_missing(status: str | None) -> bool:
    """Whether a run with this status still has to run: it has no record, or it failed."""
    return status in (None, "failed")
