"""The recorded runs of one configuration over its seeds: the numbers they are judged by, and their cost."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from bench.config import Config
from bench.data import sizes
from bench.models import MODELS
from bench.records.source import shown
from bench.records.store import Record
from bench.training.length import steps


@dataclass(frozen=True)
class Runs:
    """Runs that differ only in their seed. Values that no record has, because no run ended, are None."""

    config: Config
    """The configuration with any seed."""
    records: Mapping[int, Record]
    """By seed."""

    @property
    def regression(self) -> bool:
        """Whether runs are judged by their loss (lower is better) instead of accuracy."""
        return MODELS.declared(self.config.model, "regression")

    @property
    def measure(self) -> str:
        """What `values` measure, with the unit."""
        return "remaining loss (%)" if self.regression else "accuracy (%)"

    @property
    def values(self) -> dict[int, float]:
        """`accuracies`, or `remaining_losses`, in percent by seed."""
        return remaining_losses(self.records) if self.regression else accuracies(self.records, self.config.dataset)

    @property
    def ok(self) -> int:
        """Number of runs that ended with status `ok`."""
        return sum(record["status"] == "ok" for record in self.records.values())

    @property
    def flops_step(self) -> int | None:
        """Floating-point operations in the matrix products of one training step."""
        return self._said("flops_step")

    @property
    def flops(self) -> int | None:
        """Floating-point operations in the training steps of a whole run."""
        return self.flops_step and self.flops_step * steps(self.config)

    @property
    def seconds(self) -> float | None:
        """Median over the `ok` runs on `device`."""
        return None if self.device is None else median(self._seconds[self.device])

    @property
    def device(self) -> str | None:
        """Name of the processor that most of the `ok` runs used."""
        return max(sorted(self._seconds), key=lambda name: len(self._seconds[name]), default=None)

    @cached_property
    def _seconds(self) -> dict[str, list[float]]:
        """Seconds of the `ok` runs, by processor."""
        taken: dict[str, list[float]] = {}
        for record in self.records.values():
            if record["status"] == "ok":
                taken.setdefault(record["device"]["name"], []).append(record["seconds"])
        return taken

    @property
    def sources(self) -> list[str]:
        """The code that they ran, in the format of `Source`: commits, with `+` if the code differed from the commit."""
        return sorted({shown(record["source"]) for record in self.records.values()})

    @property
    def reads_weights(self) -> str | None:
        """`no`, `sign` or `yes`: whether the rule reads the forward weights to send the error down or to learn."""
        return (self._said("rule") or {}).get("reads_weights")

    @property
    def reads_targets(self) -> bool | None:
        """Whether the feedback learns from the targets."""
        return (self._said("rule") or {}).get("reads_targets")

    @property
    def feedback_parameters(self) -> int | None:
        """Number of entries in the network's feedback tensors."""
        return (self._said("parameters") or {}).get("feedback")

    @property
    def digest(self) -> str:
        """SHA-256, 16 hexadecimal digits, of the records' seals, sorted, one per line."""
        seals = "\n".join(sorted(record["seal"] for record in self.records.values()))
        return hashlib.sha256(seals.encode()).hexdigest()[:16]

    def paired_with(self, other: "Runs") -> list[int]:
        """The seeds that both have on the same data, by checksum; a failed run has no checksum and matches any data."""
        shared = sorted(self.records.keys() & other.records.keys())
        return [seed for seed in shared if _same_data(self.records[seed], other.records[seed])]

    def _said(self, key: str) -> Any:
        return next((record[key] for record in self.records.values() if key in record), None)


def _same_data(one: Record, other: Record) -> bool:
    return "data" not in one or "data" not in other or one["data"] == other["data"]


def values(records: Mapping[int, Record], metric: Callable[[Record], float], otherwise: float) -> dict[int, float]:
    """A number for each run, by seed; `otherwise` for a run that diverged or failed."""
    return {seed: metric(r) if r["status"] == "ok" else otherwise for seed, r in records.items()}


def accuracies(records: Mapping[int, Record], dataset: str) -> dict[int, float]:
    """Test accuracy in percent by seed; a run that diverged or failed counts as chance."""
    return values(records, lambda record: record["final"]["accuracy"], chance(dataset))


def remaining_losses(records: Mapping[int, Record]) -> dict[int, float]:
    """`remaining_loss` by seed; a run that diverged or failed counts as 100%."""
    return values(records, remaining_loss, 100.0)


def chance(dataset: str) -> float:
    """Chance accuracy in percent for the classes of a dataset or a part of it: 2 for `cifar100:50`."""
    return 100 / sizes(dataset).outputs


def remaining_loss(record: Record) -> float:
    """Loss of a linear run over its last steps (the last entry of its history), in percent of its first loss."""
    return 100 * record["history"][-1]["loss"] / record["first_losses"][0]
