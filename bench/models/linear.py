"""Two-layer linear network, y = W2 W1 x, no bias (arXiv:2502.20580, section on linear networks).

128 inputs, 64 hidden units, 64 outputs on the `linear-teacher` data. Initial standard deviations: W1 1/64, W2 1/64.
"""

import torch
from torch import Tensor, nn

from bench.data.base import Data
from bench.models.base import Network


class LinearNetwork(Network):
    """B1 is the feedback of W2; W1 sends no error down."""

    version = 1
    regression = True
    output_layer = "B1"

    def __init__(self, data: Data, hidden: int = 64) -> None:
        super().__init__()
        self.first = nn.Linear(data.train.inputs.shape[1], hidden, bias=False)
        self.second = nn.Linear(hidden, data.outputs, bias=False)
        nn.init.normal_(self.first.weight, std=1 / hidden)
        nn.init.normal_(self.second.weight, std=1 / data.outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))

    def feedback_layers(self) -> dict[str, str]:
        return {"B1": "second"}

    def measure(self, data: Data) -> dict[str, list[float]]:
        """Mode strengths diag(U' W2 W1 V), for the teacher's nonzero modes, strongest first."""
        if not hasattr(self, "_bases"):
            teacher = torch.linalg.lstsq(data.train.inputs, data.train.targets).solution.T
            U, singular, Vh = torch.linalg.svd(teacher, full_matrices=False)
            modes = int((singular > 1e-6 * singular[0]).sum())
            self._bases = U[:, :modes], Vh[:modes]
        U, Vh = self._bases
        product = self.second.weight.detach() @ self.first.weight.detach()
        return {"mode_strengths": ((U.T @ product) * Vh).sum(1).tolist()}


MODEL = LinearNetwork
