"""The result of a run."""

from dataclasses import dataclass, field
from typing import Any, Literal

from bench.data.base import Data
from bench.training.learner import Learner


@dataclass
class Outcome:
    """The result of a run. Accuracies are in percent."""

    learner: Learner
    data: Data
    status: Literal["ok", "diverged", "paused"] = "ok"
    first_losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    final: dict[str, float] = field(default_factory=dict)
    trained: dict[str, Any] = field(default_factory=dict)
    """What the trained network reports about itself."""
    dimension: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Dimension of the activity that each layer under the rule receives after training; empty if not measured."""
    seconds: float = 0.0
    """For a member of a population, its share."""
    population: int = 1
    """Number of runs trained as one program."""
