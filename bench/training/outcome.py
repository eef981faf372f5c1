"""What a run gave."""

from dataclasses import dataclass, field
from typing import Any, Literal

from bench.data.base import Data
from bench.training.learner import Learner


@dataclass
class Outcome:
    """What a run gave. Accuracies are in percent."""

    learner: Learner
    data: Data
    status: Literal["ok", "diverged", "paused"] = "ok"
    first_losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    final: dict[str, float] = field(default_factory=dict)
    trained: dict[str, Any] = field(default_factory=dict)
    """What the network says of itself once trained."""
    dimension: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Of the activity that each layer under the rule receives, once trained; empty where it is not measured."""
    seconds: float = 0.0
    """Of a member of a population, its share."""
    population: int = 1
    """Runs that were trained as one program."""
