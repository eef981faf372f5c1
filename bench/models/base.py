"""What a network declares. Networks are plain PyTorch modules; `bench.convert` puts them under a rule."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from bench.data.base import Data


class Network(nn.Module, ABC):
    """A plain PyTorch network, built for a dataset as `Network(data, **options)`."""

    version: ClassVar[int]
    """Raised when a change moves the numbers on purpose; older records become stale."""
    regression: ClassVar[bool] = False
    """Whether its targets are real numbers rather than classes."""
    output_module: ClassVar[str | None]
    """Module name of the Linear layer that gives the network's output; None if there is no single one."""
    rank_factors: Mapping[str, int] = {}
    """Factor applied to a rank given as a number, by label, for layers that stand for several."""

    @abstractmethod
    def feedback_layers(self) -> dict[str, str]:
        """Label (B1, B2, ...) to module name for each layer that the rule takes over: all that send an error down."""

    def measure(self, data: Data) -> dict[str, list[float]]:
        """Values that the network adds to each logged entry of a run's history."""
        return {}

    def measure_trained(self, inputs: Tensor) -> dict[str, Any]:
        """Values that the trained network, in eval mode, adds to the record of a run; leaves the network unchanged.

        `inputs` is the first batch of the training split, in order and not augmented.
        """
        return {}
