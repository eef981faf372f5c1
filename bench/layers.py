"""Layers whose backward pass belongs to a learning rule."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from bench.operators import LinearOperator, Operator
from bench.rules.base import Rule, Signals


class _Layer(torch.autograd.Function):
    """y = W x + b forward; backward, dW and db are exact and the rule decides everything else."""

    @staticmethod
    def forward(layer: "Linear", x: Tensor, W: Tensor, bias: Tensor | None, targets: Tensor | None, *feedback: Tensor):
        return layer.operator.apply(W, x, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        layer, x, W, _, targets, *feedback = inputs
        ctx.layer = layer
        ctx.save_for_backward(x, W, targets, *feedback)

    @staticmethod
    def backward(ctx: Any, g: Tensor):
        layer: Linear = ctx.layer
        x, W, targets, *tensors = ctx.saved_tensors
        feedback = dict(zip(layer.feedback, tensors, strict=True))
        dW = layer.operator.outer(g, x)
        signals = Signals(W=W, x=x, g=g, dW=dW, targets=targets)
        sent, gradients = layer.rule.backward(layer.operator, signals, feedback)
        if layer.clip is not None:
            sent = sent.clamp(-layer.clip, layer.clip)
        db = layer.operator.rows(g).sum(0) if ctx.needs_input_grad[3] else None
        return None, sent, dW, db, None, *(gradients.get(name) for name in feedback)


class Linear(nn.Linear):
    """`nn.Linear` under a learning rule; it takes over the parameters of a plain layer.

    `targets` is set at the output layer by the training loop, before each backward pass: one-hot labels, or the
    targets of a regression (rows, out). `clip` bounds each entry of the error sent down.
    """

    operator: Operator = LinearOperator()

    def __init__(self, plain: nn.Linear, rule: Rule, rank: int, generator: Generator, clip: float | None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias = plain.weight, plain.bias
        self.rule, self.rank, self.clip = rule, rank, clip
        self.targets: Tensor | None = None
        start = rule.start(self.operator, self.weight.detach(), rank, generator)
        self.feedback = nn.ParameterDict({name: nn.Parameter(tensor) for name, tensor in start.items()})

    def forward(self, x: Tensor) -> Tensor:
        return _Layer.apply(self, x, self.weight, self.bias, self.targets, *self.feedback.values())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rule={type(self.rule).__name__}, rank={self.rank}"


LAYERS = {nn.Linear: Linear}
"""Which layer stands in for which plain one."""
