"""The dimension of the activity in a network's hidden layers, from the eigenvalues of its covariance.

Rajan, Abbott and Sompolinsky 2010, Stimulus-dependent suppression of chaos in recurrent neural networks; Gao et al.
2017, A theory of multineuronal dimensionality, dynamics and measurement; Roy and Vetterli 2007, The effective rank.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.layers import RuleLayer
from bench.training.batches import Batches
from bench.training.learner import Learner


class Moments:
    """First and second moments of rows (examples, units), accumulated batch by batch, in float64."""

    def __init__(self) -> None:
        self.rows = 0
        self.sum: Tensor | Any = 0.0
        self.products: Tensor | Any = 0.0

    def add(self, rows: Tensor) -> None:
        rows = rows.double()
        self.rows += len(rows)
        self.sum = self.sum + rows.sum(0)
        self.products = self.products + rows.T @ rows

    @property
    def covariance(self) -> Tensor:
        """(units, units)."""
        mean = self.sum / self.rows
        return self.products / self.rows - mean.outer(mean)


@torch.inference_mode()
def measure(learner: Learner, batches: Batches) -> dict[str, dict[str, float | None]]:
    """The dimension of the activity that each layer under the rule receives, to six digits; None if it is constant.

    With l the eigenvalues of the covariance over all examples of `batches`, the network in eval mode:
    participation_ratio: (sum l)^2 / sum l^2. effective_rank: exponential of the entropy of l / sum l.

    The units are the layer's input features or input channels; in the latter case each position is an example. B1, the
    first layer under the rule, receives the activity of the first hidden layer.
    """
    learner.network.eval()
    moments = {label: Moments() for label in learner.layers}
    hooks = [layer.register_forward_pre_hook(partial(_add, moments[label])) for label, layer in learner.layers.items()]
    try:
        for inputs, _ in batches.in_order():
            learner.outputs_of(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {label: dimension(each.covariance) for label, each in moments.items()}


def _add(moments: Moments, layer: RuleLayer, inputs: tuple[Tensor, ...]) -> None:
    moments.add(layer.operator.rows(inputs[0]))


def dimension(covariance: Tensor) -> dict[str, float | None]:
    """Both dimensions for a covariance matrix."""
    eigenvalues = torch.linalg.eigvalsh(covariance).clamp(min=0)
    shares = eigenvalues / eigenvalues.sum()
    numbers = {
        "participation_ratio": 1 / shares.square().sum().item(),
        "effective_rank": torch.special.entr(shares).sum().exp().item(),
    }
    return {name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in numbers.items()}
