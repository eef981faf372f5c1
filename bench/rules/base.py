"""The contract of a learning rule.

A layer y = W x + b receives the error G = dL/dY (rows, out). Its own weight always gets the exact local gradient
dW = G'X. The rule decides the rest: which feedback tensors the layer holds, what error goes down, and what gradient
each feedback tensor gets. "Gradient" is what the optimiser descends.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from bench.operators import Operator

Feedback = dict[str, Tensor]


@dataclass(frozen=True)
class Signals:
    """What a layer knows in its backward pass.

    W: forward weight. x: input. g: error at the output, dL/dY. dW: weight gradient G'X. targets: one-hot labels or
    regression targets (rows, out) at the output layer, None elsewhere.
    """

    W: Tensor
    x: Tensor
    g: Tensor
    dW: Tensor
    targets: Tensor | None


@dataclass(frozen=True)
class Rule(ABC):
    """A learning rule. Subclasses are frozen dataclasses whose fields are the rule's options."""

    reads_weights: ClassVar[Literal["no", "sign", "yes"]] = "no"
    """Whether the error path or the feedback's learning reads W, or its sign."""
    reads_targets: ClassVar[bool] = False
    """Whether the feedback's learning reads the targets."""
    ranked: ClassVar[bool] = False
    """Whether the feedback has a rank."""
    own_feedback_rate: ClassVar[bool] = False
    """Whether the feedback learns at a rate of its own, to be tuned."""

    @abstractmethod
    def start(self, op: Operator, W: Tensor, rank: int, generator: Generator) -> Feedback:
        """The layer's feedback tensors at their initial values, by name."""

    @abstractmethod
    def backward(self, op: Operator, signals: Signals, feedback: Feedback) -> tuple[Tensor, Feedback]:
        """The error sent down, in the shape of the input, and the gradient of each feedback tensor that learns."""


def full_rank(W: Tensor) -> int:
    """min(out, in) for Linear, min(out, in k^2) for a k x k convolution."""
    return min(W.shape[0], W[0].numel())


def like_weight(W: Tensor, rows: int, generator: Generator) -> Tensor:
    """A tensor (rows, *W.shape[1:]) as PyTorch starts a weight: Kaiming uniform, U(+-1/sqrt(fan-in))."""
    bound = W[0].numel() ** -0.5
    return torch.empty(rows, *W.shape[1:], dtype=W.dtype).uniform_(-bound, bound, generator=generator)


def orthonormal(W: Tensor, rank: int, generator: Generator) -> Tensor:
    """P (out, rank) with orthonormal columns, uniformly distributed: Q of the QR of a Gaussian matrix, signs fixed."""
    gaussian = torch.empty(W.shape[0], rank, dtype=torch.float64).normal_(generator=generator)
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign()).to(W.dtype)
