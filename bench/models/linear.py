"""Two-layer linear network, y = W2 W1 x, no bias (arXiv:2502.20580, section on linear networks).

128 inputs, 64 hidden units, 64 outputs on the `linear-teacher` data.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from bench.data.base import Data
from bench.models.base import Network


class LinearNetwork(Network):
    """B1 is the feedback of W2; W1 sends no error down.

    `start`: `random` has entries of standard deviation 1/hidden (W1) and 1/outputs (W2); `balanced` is W1 = a R V', W2
    = a U R' for the bases U, V of the teacher's modes, random orthonormal columns R and a^2 = 0.001, from which the
    modes evolve one by one (Saxe, McClelland and Ganguli 2013, arXiv:1312.6120).
    """

    version = 1
    regression = True
    output_module = "second"

    def __init__(self, data: Data, hidden: int = 64, start: Literal["random", "balanced"] = "random") -> None:
        super().__init__()
        self.first = nn.Linear(data.train.inputs.shape[1], hidden, bias=False)
        self.second = nn.Linear(hidden, data.outputs, bias=False)
        teacher = torch.linalg.lstsq(data.train.inputs, data.train.targets).solution.T
        U, singular, Vh = torch.linalg.svd(teacher, full_matrices=False)
        modes = int((singular > 1e-6 * singular[0]).sum())
        self.bases = U[:, :modes], Vh[:modes]
        if start == "balanced":
            rotation = nn.init.orthogonal_(torch.empty(hidden, modes, dtype=U.dtype)).to(U.device)
            self.first.weight = nn.Parameter(BALANCED**0.5 * rotation @ Vh[:modes])
            self.second.weight = nn.Parameter(BALANCED**0.5 * U[:, :modes] @ rotation.T)
        else:
            nn.init.normal_(self.first.weight, std=1 / hidden)
            nn.init.normal_(self.second.weight, std=1 / data.outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))

    def feedback_layers(self) -> dict[str, str]:
        return {"B1": "second"}

    def measure(self, data: Data) -> dict[str, list[float]]:
        """Mode strengths diag(U' W2 W1 V) for the teacher's nonzero modes, strongest first, to six digits."""
        U, Vh = self.bases
        product = self.second.weight.detach() @ self.first.weight.detach()
        strengths = ((U.T @ product) * Vh).sum(1).tolist()
        return {"mode_strengths": [float(f"{strength:.6g}") for strength in strengths]}


BALANCED = 1e-3
"""Initial strength of every mode of a balanced start."""

MODEL = LinearNetwork
