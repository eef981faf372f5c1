"""The fields of a record and their types.

Fields with a default are missing in older records. Unknown keys are refused, because a newer version wrote them.
"""

from dataclasses import dataclass
from typing import Any, Literal

from bench.config import parse
from bench.errors import UsageError
from bench.records.source import Source

LARGEST = 2**63
"""Upper limit (exclusive) for counts and times."""
ABSENT: Any = None
"""Default of a field that a record may lack; if the record has the field, None is not a valid value."""


@dataclass(frozen=True)
class Counted:
    """Integers from 0."""

    def __post_init__(self) -> None:
        _check_least(self, **dict.fromkeys(vars(self), 0))


@dataclass(frozen=True)
class Parameters(Counted):
    """Entries in a network's tensors; `trainable` counts those, in both groups, that learn."""

    forward: int
    feedback: int
    trainable: int = 0


@dataclass(frozen=True)
class Flops(Counted):
    """Like `bench.training.costs.Flops`."""

    forward: int
    error_path: int
    weight_gradient: int
    feedback_update: int


@dataclass(frozen=True)
class Versions:
    """Versions of software that the numbers of a run may depend on."""

    python: str
    torch: str
    numpy: str


@dataclass(frozen=True)
class Device:
    """The hardware that a run used."""

    type: Literal["cpu", "cuda"]
    name: str
    threads: int

    def __post_init__(self) -> None:
        _check_least(self, threads=1)


@dataclass(frozen=True)
class Origin:
    """The data of a run, with the checksums of its files or splits."""

    name: str
    sha256: dict[str, str]


@dataclass(frozen=True)
class Locality:
    """What a rule reads beyond its layer's signals."""

    reads_weights: Literal["no", "sign", "yes"]
    reads_targets: bool


@dataclass(frozen=True, kw_only=True)
class Said:
    """Fields that every record has."""

    schema: int
    task: str
    rule_version: int = 1
    scale: str
    experiment: str
    digest: str
    config: dict
    source: Source | str
    versions: Versions
    device: Device
    status: Literal["ok", "diverged", "failed"]
    seal: str


@dataclass(frozen=True, kw_only=True)
class Failed(Said):
    """The record of a run that ended with an error."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Ended(Said):
    """The record of a run that ended, `ok` or `diverged`. Losses and measurements that were not finite are None."""

    data: Origin
    rule: Locality
    notes: list[str]
    first_losses: list
    history: list
    final: dict
    trained: dict = ABSENT
    dimension: dict | None = None
    seconds: float
    population: int = 1
    parameters: Parameters
    flops_step: int
    flops: Flops = ABSENT
    flops_layers: dict[str, Flops] = ABSENT
    peak_memory_bytes: int

    def __post_init__(self) -> None:
        _check_least(self, seconds=0, population=1, flops_step=0, peak_memory_bytes=0)


def check_fields(record: dict[str, Any]) -> None:
    """Raises `UsageError` for a key that is missing or unknown, and for a value of the wrong type or out of range."""
    parse(Failed if record.get("status") == "failed" else Ended, record, "record")


def _check_least(counted: Any, **least: int) -> None:
    for name, number in least.items():
        if not number <= getattr(counted, name) < LARGEST:
            raise UsageError(f"{name}: {getattr(counted, name)!r} is not allowed; expected: finite, {number} or more")
