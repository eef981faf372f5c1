"""Which runs of a sweep are missing, and whether they can run."""

from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

from bench.config import Config
from bench.records.index import is_missing
from bench.records.store import Record, Store


class Plan(NamedTuple):
    """The runs to train for an experiment or a tuning."""

    experiment: str
    reuses: Sequence[str]
    """Experiments whose records count as this one's."""
    runs: Sequence[Config]

    @property
    def experiments(self) -> list[str]:
        """The experiments of which a record makes a run unnecessary."""
        return [self.experiment, *self.reuses]


def missing(configs: Sequence[Config], store: Store, experiments: Sequence[str]) -> list[Config]:
    """Those of `configs` that still have to run: none of `experiments` has a valid record, or the run failed."""
    return [config for config in configs if not is_final(store.find(config, experiments))]


def is_final(record: Record | None) -> TypeGuard[Record]:
    """Whether a run has a result; a failed run is to be repeated."""
    return record is not None and not is_missing(record["status"])


def check(configs: Sequence[Config]) -> None:
    """Builds one network per setting. Raises `UsageError` for a setting that cannot run, before anything is written."""
    from bench.training.augment import augmentation
    from bench.training.learner import prepare

    alike = {config.without_numbers.digest: config for config in configs}
    for config in alike.values():
        prepare(config, "cpu")
        for spec in config.augment:
            augmentation(spec)
