"""The contract of a learning rule.

A layer y = W x + b receives the error G = dL/dY (rows, out). Its own weight always gets the exact local gradient dW =
G'X. The rule decides the rest: which feedback tensors the layer has, which error is sent down, and the gradient of each
feedback tensor. "Gradient" is what the optimiser descends.
"""

from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import FrozenInstanceError, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, dataclass_transform

import torch
from torch import Generator, Tensor

from bench.operators import Operator

Feedback = dict[str, Tensor]
"""Feedback tensors, or their gradients, by name."""
Response = tuple[Tensor, Feedback]
"""The error sent down, in the shape of the input, and the gradient of each feedback tensor that learns."""


@dataclass(frozen=True)
class Signals:
    """What a layer knows in its backward pass.

    op: the layer's linear map. W: forward weight. x: input. g: error at the output, dL/dY. targets: one-hot labels or
    regression targets (rows, out) at the output layer if the rule is told them there; one-hot labels (examples,
    classes) at every layer if it is told them everywhere; else None. direct: for a rule with a source, the error there,
    (examples, width of the source); None at the layer that produces that error. fixed: names of the feedback tensors
    whose gradient is not needed.

    The two that may be None are also typed `Any`, so that a rule that receives them need not check for None.
    """

    op: Operator
    W: Tensor
    x: Tensor
    g: Tensor
    targets: Tensor | Any = None
    direct: Tensor | Any = None
    fixed: Set[str] = frozenset()

    @cached_property
    def dW(self) -> Tensor:
        """The weight gradient G'X. If a rule does not use it, x and g are still in the cache when it is computed."""
        return self.op.outer(self.g, self.x)


@dataclass_transform(frozen_default=True)
class Rule(ABC):
    """A learning rule. Subclasses become frozen dataclasses without a decorator; their annotated fields are options.

    `reads_weights`, `told`, `source` and `resets` are set in the class or, if they depend on the options, as a field or
    a property.
    """

    version: ClassVar[int] = 1
    """Raised when a change moves the rule's numbers on purpose. Not inherited: a rule that does not set it has version
    1.
    """
    reads_weights: Literal["no", "sign", "yes"] = "no"
    """Whether the error path, the learning of the feedback or its initial values read W or its sign."""
    told: Literal["output", "all"] | None = None
    """Which layers receive the targets: the output layer, or all layers, which take class labels; None for none.
    """
    ranked: ClassVar[bool] = False
    """Whether the feedback has a rank."""
    own_feedback_rate: ClassVar[bool] = False
    """Whether the feedback has its own learning rate, to be tuned."""
    scale_free: ClassVar[Set[str]] = frozenset()
    """Names of the feedback tensors whose gradient does not grow with the loss; `error` if the error sent down does
    not.
    """
    draws: ClassVar[bool] = False
    """Whether its backward pass draws random numbers."""
    source: Literal["output", "hidden"] | None = None
    """Where the error that directly reaches every layer comes from: the network's output or its last hidden layer."""
    resets: int = 0
    """How many times per epoch `reset` is called."""

    def __init_subclass__(cls) -> None:
        cls.version = vars(cls).get("version", 1)
        dataclass(frozen=True)(cls)
        del cls.__setattr__, cls.__delattr__  # the methods below must stay, so that subclasses may also be decorated

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to {name!r} of a rule")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete {name!r} of a rule")

    @property
    def reads_targets(self) -> bool:
        """Whether any layer receives the targets."""
        return self.told is not None

    def serves(self, regression: bool) -> bool:
        """Whether it can train such networks: targets that every layer receives must be class labels."""
        return not (regression and self.told == "all")

    @property
    def direct(self) -> bool:
        """Whether layers receive the source's error or the targets, so that feedback replaces a map to one of these."""
        return self.source is not None or self.told == "all"

    @abstractmethod
    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        """The layer's initial feedback tensors, by name.

        Under a direct rule, W stands for a map from the layer's input channels to the signal it receives, (width, in).
        """

    def fixed(self, feedback: Feedback) -> Set[str]:
        """Names of the feedback tensors that never change, given their initial values; by default all of them learn."""
        return frozenset()

    @abstractmethod
    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        """The error sent down, in the shape of the input, and the gradient of each feedback tensor that learns.

        Gradients of tensors in `signals.fixed` are not used and need not be computed.
        """

    def feedback_matrix(self, W: Tensor, feedback: Feedback) -> Tensor | None:
        """The tensor, in the shape of W, that replaces W on the way down.

        None if no single tensor does. Not called for direct rules.
        """
        return None

    def reset(self, W: Tensor, feedback: Feedback) -> None:  # noqa: B027
        """Reinitialises feedback tensors in place."""


def full_rank(W: Tensor) -> int:
    """min(out, in) for Linear, min(out, in k^2) for a k x k convolution."""
    return min(W.shape[0], W[0].numel())


def like_weight(W: Tensor, rows: int, generator: Generator) -> Tensor:
    """A tensor (rows, *W.shape[1:]) initialised like PyTorch weights: Kaiming uniform, U(+-1/sqrt(fan-in))."""
    bound = W[0].numel() ** -0.5
    return torch.empty(rows, *W.shape[1:], dtype=W.dtype).uniform_(-bound, bound, generator=generator)


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor, in float32 if it is in half precision, which is too coarse for sums and decompositions."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def column_moments(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and uncorrected variance of each column of a matrix (rows, columns) over its rows."""
    mapped = torch._C._are_functorch_transforms_active()
    if matrix.is_cpu and not mapped:  # where batch norm's statistics are several times as fast as torch.var_mean
        mean, variance = torch.batch_norm_update_stats(matrix, None, None, 0.0)
        return mean, variance
    variance, mean = torch.var_mean(matrix, 0, correction=0)
    return mean, variance


def product(P: Tensor, Q: Tensor) -> Tensor:
    """P Q (out, *Q.shape[1:]), for factors P (out, r) and Q (r, in) or (r, in, k, k)."""
    return (P @ Q.flatten(1)).view(len(P), *Q.shape[1:])


def orthonormal(W: Tensor, rank: int, generator: Generator) -> Tensor:
    """P (out, rank) with orthonormal columns, uniformly distributed: Q of the QR of a Gaussian matrix, signs fixed."""
    gaussian = torch.empty(W.shape[0], rank, dtype=torch.float64).normal_(generator=generator)
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign()).to(W.dtype)


def svd_factors(W: Tensor, rank: int) -> Feedback:
    """P = U sqrt(S) and Q = sqrt(S) V' of the rank-r SVD of W. It reads W: this is weight transport."""
    U, S, Vh = torch.linalg.svd(at_least_float32(W.flatten(1)), full_matrices=False)
    root = S[:rank].sqrt()
    Q = root[:, None] * Vh[:rank]
    return {"P": (U[:, :rank] * root).to(W.dtype), "Q": Q.view(rank, *W.shape[1:]).to(W.dtype)}
