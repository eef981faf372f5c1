"""What a network says about itself. Networks are plain PyTorch modules; `bench.convert` puts them under a rule."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from bench.data.base import Data


class Network(nn.Module, ABC):
    """A plain network, built for a dataset as `Network(data, **options)`."""

    version: ClassVar[int]
    """Raised when a change moves the numbers on purpose; older records become stale."""
    regression: ClassVar[bool] = False
    """Whether its targets are real numbers, not classes."""
    output_module: ClassVar[str | None]
    """Module name of the Linear layer that gives the network's output; None where there is no single one."""
    rank_factors: Mapping[str, int] = {}
    """Label to the factor on a rank given as a number, for layers that stand for several."""

    @abstractmethod
    def feedback_layers(self) -> dict[str, str]:
        """Label (B1, B2, ...) to module name of each layer that the rule takes over: all that send an error down."""

    def measure(self, data: Data) -> dict[str, list[float]]:
        """What the network adds to the history of a run, each time that it is logged."""
        return {}

    def measure_trained(self, inputs: Tensor) -> dict[str, Any]:
        """What the network adds to the record of a run, once trained; it is in eval mode, and stays as it is.

        `inputs` is the first batch of the training split, in order and not augmented.
        """
        return {}
