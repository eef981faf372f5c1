"""The recorded runs of one configuration, over its seeds: what they are judged by, and what they cost."""

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
    """Runs that differ in their seed alone. What no record says, as no run ended, is None."""

    config: Config
    """That of any seed."""
    records: Mapping[int, Record]
    """By seed."""

    @property
    def regression(self) -> bool:
        """Whether the loss is what counts, the less the better; else it is accuracy."""
        return MODELS.declared(self.config.model, "regression")

    @property
    def measure(self) -> str:
        """What `values` are, with their unit."""
        return "remaining loss (%)" if self.regression else "accuracy (%)"

    @property
    def values(self) -> dict[int, float]:
        """`accuracies`, or `remaining_losses`, in percent by seed."""
        return remaining_losses(self.records) if self.regression else accuracies(self.records, self.config.dataset)

    @property
    def ok(self) -> int:
        """How many ended well."""
        return sum(record["status"] == "ok" for record in self.records.values())

    @property
    def flops_step(self) -> int | None:
        """Floating-point operations of the matrix products of one training step."""
        return self._said("flops_step")

    @property
    def flops(self) -> int | None:
        """Those of the training steps of a whole run."""
        return self.flops_step and self.flops_step * steps(self.config)

    @property
    def seconds(self) -> float | None:
        """Median over the runs that ended well on `device`."""
        return None if self.device is None else median(self._seconds[self.device])

    @property
    def device(self) -> str | None:
        """Name of the processor that most of the runs ran on that ended well."""
        return max(sorted(self._seconds), key=lambda name: len(self._seconds[name]), default=None)

    @cached_property
    def _seconds(self) -> dict[str, list[float]]:
        """Of the runs that ended well, by processor."""
        taken: dict[str, list[float]] = {}
        for record in self.records.values():
            if record["status"] == "ok":
                taken.setdefault(record["device"]["name"], []).append(record["seconds"])
        return taken

    @property
    def sources(self) -> list[str]:
        """The code that they ran, as `Source` puts it: commits, `+` where the code was not that of the commit."""
        return sorted({shown(record["source"]) for record in self.records.values()})

    @property
    def reads_weights(self) -> str | None:
        """`no`, `sign` or `yes`: whether the rule reads the forward weights to send the error down, or to learn."""
        return (self._said("rule") or {}).get("reads_weights")

    @property
    def reads_targets(self) -> bool | None:
        """Whether the feedback learns from the targets."""
        return (self._said("rule") or {}).get("reads_targets")

    @property
    def feedback_parameters(self) -> int | None:
        """Entries of the feedback tensors of the network."""
        return (self._said("parameters") or {}).get("feedback")

    @property
    def digest(self) -> str:
        """SHA-256, 16 hexadecimal digits, of the seals of the records, sorted, a line each."""
        seals = "\n".join(sorted(record["seal"] for record in self.records.values()))
        return hashlib.sha256(seals.encode()).hexdigest()[:16]

    def paired_with(self, other: "Runs") -> list[int]:
        """The seeds that both have on the same data, by its checksums; a run that failed names none."""
        shared = sorted(self.records.keys() & other.records.keys())
        return [seed for seed in shared if _same_data(self.records[seed], other.records[seed])]

    def _said(self, key: str) -> Any:
        return next((record[key] for record in self.records.values() if key in record), None)


def _same_data(one: Record, other: Record) -> bool:
    return "data" not in one or "data" not in other or one["data"] == other["data"]


def values(records: Mapping[int, Record], metric: Callable[[Record], float], otherwise: float) -> dict[int, float]:
    """A number of each run by seed, `otherwise` for a run that diverged or failed."""
    return {seed: metric(r) if r["status"] == "ok" else otherwise for seed, r in records.items()}


def accuracies(records: Mapping[int, Record], dataset: str) -> dict[int, float]:
    """Test accuracy in percent by seed; a run that diverged or failed counts as chance."""
    return values(records, lambda record: record["final"]["accuracy"], chance(dataset))


def remaining_losses(records: Mapping[int, Record]) -> dict[int, float]:
    """`remaining_loss` by seed; a run that diverged or failed counts as the whole of the loss."""
    return values(records, remaining_loss, 100.0)


def chance(dataset: str) -> float:
    """The accuracy in percent of a guess among the classes of a dataset, or of its part: 2 for `cifar100:50`."""
    return 100 / sizes(dataset).outputs


def remaining_loss(record: Record) -> float:
    """Loss of a linear run over its last steps (the last entry of its history), in percent of its first."""
    return 100 * record["history"][-1]["loss"] / record["first_losses"][0]
