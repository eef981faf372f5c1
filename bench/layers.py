"""Layers whose backward pass belongs to a learning rule.

`Linear` and `Conv2d` are PyTorch's layers with a rule: `Linear(512, 256, rule="ldfa", rank=10)`.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Generator, Tensor, nn

from bench.errors import UsageError
from bench.operators import ConvOperator, LinearOperator, Operator
from bench.rules import RULES
from bench.rules.base import Rule, Signals, full_rank


class _Layer(torch.autograd.Function):
    """y = W x + b forward; backward, dW and db are exact and the rule decides everything else.

    The backward pass is computed in the weight's dtype, whatever the forward pass had under autocast.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        """Of the layer, x, W, bias, targets and feedback tensors."""
        layer, x, W, bias, *_ = inputs
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
        g, x = g.to(W.dtype), x.to(W.dtype)
        direct = None if layer.source is None else layer.source.error.to(W.dtype)
        fixed = {name for name, asked in zip(feedback, ctx.needs_input_grad[5:], strict=True) if not asked}
        signals = Signals(layer.operator, W, x, g, targets, direct, fixed)
        sent, gradients = layer.rule.backward(layer.operator, signals, feedback)
        if disputed := gradients.keys() & fixed & layer.fixed:
            named = ", ".join(sorted(disputed))
            raise UsageError(f"{type(layer.rule).__name__} says that {named} is fixed, and gives a gradient for it")
        if layer.clip is not None:
            sent = sent.clamp(-layer.clip, layer.clip)
        db = layer.operator.rows(g).sum(0) if ctx.needs_input_grad[3] else None
        return None, sent, signals.dW, db, None, *(gradients.get(name) for name in feedback)


class _Unmapped(_Layer):
    """The same where `torch.func` is not at work; PyTorch inspects the arguments of the form for it at every call.

    In a step that fills the cache that costs a layer a tenth of a millisecond.
    """

    setup_context = torch.autograd.Function.setup_context

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _Layer.forward(*inputs)
        _Layer.setup_context(ctx, inputs, output)
        return output


class Source:
    """The error (examples, width) at one place of a network, which the layers of a direct rule all hear."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.error: Tensor | None = None

    def listen(self, output: nn.Linear, place: Literal["output", "hidden"]) -> None:
        """Take the error at the layer that gives the network's output: at its output, or its input (`hidden`).

        Each forward pass from then on raises `UsageError` where that output is not one row an example.
        """
        if place == "hidden":
            output.register_forward_pre_hook(self._before)
        else:
            output.register_forward_hook(self._after)

    def _before(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._watch(inputs[0])

    def _after(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._watch(output)

    def _watch(self, signal: Tensor) -> None:
        if signal.ndim != 2:
            shape = tuple(signal.shape)
            raise UsageError(f"a direct rule needs one output an example; allowed: (examples, outputs), found {shape}")
        if signal.requires_grad:
            signal.register_hook(self._hear)

    def _hear(self, error: Tensor) -> None:
        self.error = error


class RuleLayer(nn.Module, ABC):
    """A layer under a learning rule.

    Takes the arguments of the plain layer, and: `rule`, a name or a `Rule`; `rank`, full if None and capped there;
    `clip`, a bound on each entry of the error sent down; `generator`, of the feedback's initial values.

    `targets` is set at the output layer, before each backward pass: one-hot labels, or the targets of a regression
    (rows, out).

    What the rule holds `fixed` is a parameter that does not require a gradient.
    """

    plain: ClassVar[type[nn.Module]]

    def __init__(
        self,
        *arguments: Any,
        rule: str | Rule,
        rank: int | None = None,
        clip: float | None = None,
        generator: Generator | None = None,
        **keywords: Any,
    ) -> None:
        rule = RULES.get(rule)() if isinstance(rule, str) else rule
        if rule.source is not None:
            raise UsageError("a direct rule needs the network around the layer; allowed: bench.convert")
        layer = self.plain(*arguments, **keywords)
        full = full_rank(layer.weight)
        self._take_over(layer, rule, min(rank or full, full), generator or torch.default_generator, clip, None)

    @classmethod
    def under(
        cls, plain: nn.Module, rule: Rule, rank: int, generator: Generator, clip: float | None, source: Source | None
    ) -> Self:
        """The layer that stands in for a plain one, with its parameters."""
        layer = cls.__new__(cls)
        layer._take_over(plain, rule, rank, generator, clip, source)
        return layer

    def _take_over(self, plain, rule, rank, generator, clip, source) -> None:
        nn.Module.__init__(self)
        for name in plain.__constants__:
            setattr(self, name, getattr(plain, name))
        self.operator = self.operator_of(plain)
        self.weight, self.bias = plain.weight, plain.bias
        self.rule, self.rank, self.clip, self.source = rule, rank, clip, source
        self.targets: Tensor | None = None
        start = rule.start(self.operator, feedback_like(plain.weight.detach(), source), rank, generator)
        self.fixed = frozenset(rule.fixed(start))
        self.feedback = nn.ParameterDict({n: nn.Parameter(tensor, n not in self.fixed) for n, tensor in start.items()})

    @staticmethod
    @abstractmethod
    def operator_of(plain: nn.Module) -> Operator:
        """The linear map of a plain layer. Raises `UsageError` for a layer that has no such map here."""

    def forward(self, x: Tensor) -> Tensor:
        function = _Layer if torch._C._are_functorch_transforms_active() else _Unmapped
        return function.apply(self, x, self.weight, self.bias, self.targets, *self.feedback.values())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rule={type(self.rule).__name__}, rank={self.rank}"


def feedback_like(weight: Tensor, source: Source | None) -> Tensor:
    """What the feedback stands for: the layer's weight, or under a direct rule a map (width of the source, in)."""
    return weight if source is None else weight.new_empty(source.width, weight.shape[1])


class Linear(RuleLayer, nn.Linear):
    """`nn.Linear` under a learning rule."""

    plain = nn.Linear

    @staticmethod
    def operator_of(plain: nn.Linear) -> Operator:
        return LinearOperator()


class Conv2d(RuleLayer, nn.Conv2d):
    """`nn.Conv2d` under a learning rule: one group, zero padding of a given size."""

    plain = nn.Conv2d

    @staticmethod
    def operator_of(plain: nn.Conv2d) -> Operator:
        if plain.groups != 1:
            raise UsageError(f"a convolution of {plain.groups} groups cannot be under a rule; allowed: groups=1")
        if plain.padding_mode != "zeros" or isinstance(plain.padding, str):
            given = f"padding {plain.padding!r}, padding_mode {plain.padding_mode!r}"
            raise UsageError(f"a convolution with {given} cannot be under a rule; allowed: sizes, padding_mode='zeros'")
        return ConvOperator(plain.kernel_size, plain.stride, plain.padding, plain.dilation)


LAYERS = {layer.plain: layer for layer in (Linear, Conv2d)}
"""Which layer stands in for which plain one."""
