"""Layers whose backward pass belongs to a learning rule."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from bench.errors import UsageError
from bench.operators import ConvOperator, LinearOperator, Operator
from bench.rules.base import Rule, Signals


class _Layer(torch.autograd.Function):
    """y = W x + b forward; backward, dW and db are exact and the rule decides everything else."""

    @staticmethod
    def forward(
        layer: "RuleLayer", x: Tensor, W: Tensor, bias: Tensor | None, targets: Tensor | None, *feedback: Tensor
    ):
        return layer.operator.apply(W, x, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        layer, x, W, _, targets, *feedback = inputs
        ctx.layer = layer
        ctx.save_for_backward(x, W, targets, *feedback)

    @staticmethod
    def backward(ctx: Any, g: Tensor):
        layer: RuleLayer = ctx.layer
        x, W, targets, *tensors = ctx.saved_tensors
        feedback = dict(zip(layer.feedback, tensors, strict=True))
        dW = layer.operator.outer(g, x)
        signals = Signals(W=W, x=x, g=g, dW=dW, targets=targets)
        sent, gradients = layer.rule.backward(layer.operator, signals, feedback)
        if layer.clip is not None:
            sent = sent.clamp(-layer.clip, layer.clip)
        db = layer.operator.rows(g).sum(0) if ctx.needs_input_grad[3] else None
        return None, sent, dW, db, None, *(gradients.get(name) for name in feedback)


class RuleLayer(nn.Module, ABC):
    """A layer under a learning rule, which takes over the parameters of a plain one.

    `targets` is set at the output layer by the training loop, before each backward pass: one-hot labels, or the
    targets of a regression (rows, out). `clip` bounds each entry of the error sent down.
    """

    def __init__(self, plain: nn.Module, rule: Rule, rank: int, generator: Generator, clip: float | None) -> None:
        nn.Module.__init__(self)
        for name in plain.__constants__:
            setattr(self, name, getattr(plain, name))
        self.operator = self.operator_of(plain)
        self.weight, self.bias = plain.weight, plain.bias
        self.rule, self.rank, self.clip = rule, rank, clip
        self.targets: Tensor | None = None
        start = rule.start(self.operator, self.weight.detach(), rank, generator)
        self.feedback = nn.ParameterDict({name: nn.Parameter(tensor) for name, tensor in start.items()})

    @staticmethod
    @abstractmethod
    def operator_of(plain: nn.Module) -> Operator:
        """The linear map of a plain layer. Raises `UsageError` for a layer that has no such map here."""

    def forward(self, x: Tensor) -> Tensor:
        return _Layer.apply(self, x, self.weight, self.bias, self.targets, *self.feedback.values())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rule={type(self.rule).__name__}, rank={self.rank}"


class Linear(RuleLayer, nn.Linear):
    """`nn.Linear` under a learning rule."""

    @staticmethod
    def operator_of(plain: nn.Linear) -> Operator:
        return LinearOperator()


class Conv2d(RuleLayer, nn.Conv2d):
    """`nn.Conv2d` under a learning rule: one group, zero padding of a given size."""

    @staticmethod
    def operator_of(plain: nn.Conv2d) -> Operator:
        if plain.groups != 1:
            raise UsageError(f"a convolution of {plain.groups} groups cannot be under a rule; allowed: groups=1")
        if plain.padding_mode != "zeros" or isinstance(plain.padding, str):
            given = f"padding {plain.padding!r}, padding_mode {plain.padding_mode!r}"
            raise UsageError(f"a convolution with {given} cannot be under a rule; allowed: sizes, padding_mode='zeros'")
        return ConvOperator(plain.kernel_size, plain.stride, plain.padding, plain.dilation)


LAYERS = {nn.Linear: Linear, nn.Conv2d: Conv2d}
"""Which layer stands in for which plain one."""
