"""Multilayer perceptron: inputs-width-width-width-outputs, each hidden layer Linear, BatchNorm, ReLU.

Dropout, if any, acts before the output layer.

arXiv:2502.20580, section on nonlinear networks: width 512 on CIFAR-10 (3072-512-512-512-10).
"""

from itertools import pairwise

from torch import Tensor, nn

from bench.data.base import Data
from bench.errors import UsageError
from bench.models.base import Network


class MLP(Network):
    """B1, B2, B3 are the feedbacks of the second, third and output layer; the first layer sends no error down.

    Raises `UsageError` for a dropout rate out of range.
    """

    version = 1
    output_module = "output"

    def __init__(self, data: Data, width: int = 512, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise UsageError(f"model mlp: dropout {dropout:g} is not allowed; expected: 0 or more, below 1")
        sizes = [data.train.inputs[0].numel(), width, width, width]
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Linear(below, above), nn.BatchNorm1d(above), nn.ReLU(inplace=True))
            for below, above in pairwise(sizes)
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, data.outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for block in self.hidden:
            x = block(x)
        return self.output(self.dropout(x))

    def feedback_layers(self) -> dict[str, str]:
        return {"B1": "hidden.1.0", "B2": "hidden.2.0", "B3": "output"}


MODEL = MLP
