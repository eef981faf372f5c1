"""Layers whose backward pass belongs to a learning rule.

`Linear`, `Conv2d` and the others are PyTorch's layers with a rule: `Linear(512, 256, rule="ldfa", rank=10)`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor, nn
from torch.func import vmap

from bench.errors import UsageError
from bench.layers.direct import Source
from bench.layers.ranks import check_ranked, parse_rank, rank_for
from bench.layers.watch import Watch, unwatch, watch
from bench.operators import ConvOperator, ConvTransposeOperator, LinearOperator, Operator
from bench.rules import RULES
from bench.rules.base import Feedback, Rule, Signals, full_rank


class _Layer(torch.autograd.Function):
    """y = W x + b forward; backward, dW and db are exact and the rule decides everything else.

    The backward pass is computed in the weight's dtype, whatever the forward pass had under autocast.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        """Of the layer, its operator, x, W, bias, targets and feedback tensors."""
        _, operator, x, W, bias, *_ = inputs
        return operator.apply(operator.canonical(W), x, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        layer, operator, x, W, _, targets, *feedback = inputs
        ctx.layer, ctx.operator = layer, operator
        ctx.save_for_backward(x, W, targets, *feedback)

    @staticmethod
    def backward(ctx: Any, g: Tensor):
        layer: RuleLayer = ctx.layer
        operator: Operator = ctx.operator
        x, W, targets, *tensors = ctx.saved_tensors
        feedback = dict(zip(layer.feedback, tensors, strict=True))
        fixed = {name for name, asked in zip(feedback, ctx.needs_input_grad[6:], strict=True) if not asked}
        g, x = g.to(W.dtype), x.to(W.dtype)
        if not g.numel() or not x.numel():
            learning = (None if name in fixed else torch.zeros_like(tensor) for name, tensor in feedback.items())
            db = g.new_zeros(operator.rows(g).shape[1]) if ctx.needs_input_grad[4] else None
            return None, None, torch.zeros_like(x), torch.zeros_like(W), db, None, *learning
        seen, shape = operator.canonical(W), x.shape
        seen = seen if layer.rule.reads_weights == "yes" else seen.detach()
        direct = None if layer.source is None else layer.source.heard_by(layer, ctx, x).to(W.dtype)
        if direct is not None and direct.ndim > 2:
            direct, g, x = (tensor.flatten(0, -2) for tensor in (direct, g, x))
        if targets is not None and targets.shape != (told := operator.rows(g).shape):
            raise UsageError(f"targets of shape {tuple(targets.shape)}; expected: {tuple(told)}, those of this batch")
        signals = Signals(operator, seen, x, g, targets, direct, fixed)
        sent, gradients = layer.respond(signals, feedback)
        if disputed := gradients.keys() & fixed & layer.fixed:
            named = ", ".join(sorted(disputed))
            raise UsageError(f"{type(layer.rule).__name__} says that {named} is fixed, and gives a gradient for it")
        if layer.clip is not None:
            sent = sent.clamp(-layer.clip, layer.clip)
        dW = operator.native(signals.dW) if ctx.needs_input_grad[3] else None
        db = operator.rows(g).sum(0) if ctx.needs_input_grad[4] else None
        return None, None, sent.view(shape), dW, db, None, *(gradients.get(name) for name in feedback)


class _Unmapped(_Layer):
    """The same where `torch.func` is not at work; PyTorch inspects the arguments of the form for it at every call.

    In a step that fills the cache that costs a layer a tenth of a millisecond.
    """

    setup_context = torch.autograd.Function.setup_context

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _Layer.forward(*inputs)
        _Layer.setup_context(ctx, inputs, output)
        if output._is_view():  # of what the layer made: what comes next may not change such a one in place
            output = torch.ops.aten._unsafe_view(output, output.shape)
        return output

    @staticmethod
    def backward(ctx: Any, g: Tensor):
        gradients = _Layer.backward(ctx, g)
        if ctx.layer.watch is not None and gradients[3] is not None:
            ctx.layer.watch.add(gradients[3])
        return gradients


class RuleLayer(nn.Module):
    """A layer under a learning rule.

    Takes the arguments of the plain layer, and: `rule`, a name or a `Rule`; `rank`, a number, a fraction of the output
    channels ("1/4"), full if None and capped there; `clip`, a bound on each entry of the error sent down; `generator`,
    of the feedback's initial values.

    A layer of several groups has feedback for each, stacked along a leading dimension; a rank is of a group's channels.

    `targets` is set at the output layer, before each backward pass: one-hot labels, or the targets of a regression
    (rows, out).

    What the rule holds `fixed` is a parameter that does not require a gradient.
    """

    plain: ClassVar[type[nn.Module]]
    OWN: ClassVar = (
        *("operator", "rule", "rank", "clip", "source", "targets", "fixed", "feedback", "label", "family", "called"),
        *("unwatched", "watch"),
    )
    """Attributes that the plain layer does not have."""

    def __init__(
        self,
        *arguments: Any,
        rule: str | Rule,
        rank: int | str | None = None,
        clip: float | None = None,
        generator: Generator | None = None,
        **keywords: Any,
    ) -> None:
        name = f"rule {rule!r}" if isinstance(rule, str) else type(rule).__name__
        rule = RULES.get(rule)() if isinstance(rule, str) else rule
        if rule.source is not None:
            raise UsageError("a direct rule needs the network around the layer; allowed: bench.convert")
        check_ranked(rule, rank, name)
        asked = parse_rank(rank, "rank=")
        check_clip(clip)
        super().__init__(*arguments, **keywords)
        operator = self.operator_of(self)
        check_weight(self.weight)
        like = group_of(operator, self.weight)
        rank = min(rank_for(asked, like), full_rank(like))
        given, fixed = initial_feedback(operator, self.weight, rule, rank, generator or torch.default_generator, None)
        self._take_over(operator, rule, rank, given, fixed, clip, None)

    @classmethod
    def from_plain(
        cls,
        plain: nn.Module,
        rule: Rule,
        rank: int,
        generator: Generator,
        clip: float | None = None,
        source: Source | None = None,
    ) -> Self:
        """Puts a plain layer under a rule: the same object, with its parameters, hooks and attributes."""
        operator = cls.operator_of(plain)
        given, fixed = initial_feedback(operator, plain.weight, rule, rank, generator, source)
        plain.__class__ = cls
        plain._take_over(operator, rule, rank, given, fixed, clip, source)
        return plain

    def _take_over(self, operator, rule, rank, given, fixed, clip, source) -> None:
        self.operator = operator
        self.rule, self.rank, self.clip, self.source = rule, rank, clip, source
        self.targets: Tensor | None = None
        self.fixed = fixed
        self.feedback = nn.ParameterDict({n: nn.Parameter(tensor, n not in fixed) for n, tensor in given.items()})
        self.label, self.family, self.called = "", [self], False
        W, first = self._by_group()[0]
        self.unwatched = rule.feedback_matrix(W, first) is W
        self.watch: Watch | None = None
        self._watch()

    def leave_unwatched(self) -> None:
        """Lets other code read the weight: an embedding that shares it makes a gradient of its own."""
        unwatch(self)
        self.unwatched, self.watch = True, None

    def to_plain(self) -> None:
        """Turns the layer into the plain one that it was, the same object."""
        unwatch(self)
        del self.feedback
        for name in self.OWN:
            self.__dict__.pop(name, None)
        self.__class__ = self.plain

    @staticmethod
    def operator_of(plain: nn.Module) -> Operator:
        """The linear map of a plain layer. Raises `UsageError` for a layer that has no such map here."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self._through(self.operator, x)

    def _through(self, operator: Operator, x: Tensor) -> Tensor:
        mapped = torch._C._are_functorch_transforms_active()
        self.__dict__["called"] = True
        if mapped and self.watch is not None:
            self.watch.mapped = True
        elif not self.unwatched and (self.watch is None or self.watch.weight() is not self._parameters.get("weight")):
            self._watch()
        single = x.ndim == operator.example_dimensions
        function = _Layer if mapped else _Unmapped
        x, bias = x[None] if single else x, getattr(self, "bias", None)
        y = function.apply(self, operator, x, self.weight, bias, self.targets, *self.feedback.values())
        return y[0] if single else y

    def respond(self, signals: Signals, feedback: Feedback) -> tuple[Tensor, Feedback]:
        """The error sent down and the gradients of the feedback: the rule's, for each group its own."""
        if signals.op.groups == 1:
            return self.rule.backward(signals.op, signals, feedback)
        groups, group = signals.op.groups, signals.op.group

        def one(W: Tensor, x: Tensor, g: Tensor, targets: Tensor | None, feedback: Feedback) -> tuple[Tensor, Feedback]:
            heard = replace(signals, op=group, W=W, x=x, g=g, targets=targets)
            return self.rule.backward(group, heard, feedback)

        W = signals.W.unflatten(0, (groups, -1))
        told = None if signals.targets is None else signals.targets.unflatten(1, (groups, -1))
        x, g = (tensor.unflatten(1, (groups, -1)) for tensor in (signals.x, signals.g))
        each = vmap(one, (0, 1, 1, None if told is None else 1, 0), out_dims=(1, 0), randomness="different")
        sent, gradients = each(W, x, g, told, feedback)
        return sent.flatten(1, 2), gradients

    def feedback_matrix(self) -> Tensor | None:
        """What stands for the weight on the way down, (out, in/G, ...); None where no one tensor does."""
        each = [self.rule.feedback_matrix(W, feedback) for W, feedback in self._by_group()]
        return None if each[0] is None else each[0] if len(each) == 1 else torch.cat(each)

    def reset_feedback(self) -> None:
        """Lets the rule set the feedback anew, in place."""
        for W, feedback in self._by_group():
            self.rule.reset(W, feedback)

    def _by_group(self) -> list[tuple[Tensor, Feedback]]:
        W, groups = self.operator.canonical(self.weight), self.operator.groups
        if groups == 1:
            return [(W, dict(self.feedback))]
        parts = [{name: tensor[group] for name, tensor in self.feedback.items()} for group in range(groups)]
        return list(zip(W.chunk(groups), parts, strict=True))

    def _watch(self) -> None:
        self.watch = None if self.unwatched else watch(self)

    def _apply(self, *arguments: Any, **keywords: Any) -> Self:
        super()._apply(*arguments, **keywords)
        self._watch()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "watch"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(state)
        self.watch = None
        self._watch()

    def __reduce_ex__(self, protocol: int) -> tuple:
        return _blank, (self.plain,), self.__getstate__()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rule={type(self.rule).__name__}, rank={self.rank}"


def _blank(plain: type[nn.Module]) -> RuleLayer:
    kind = layer_class(plain)
    return kind.__new__(kind)


def feedback_like(weight: Tensor, source: Source | None) -> Tensor:
    """What the feedback stands for: the layer's weight, or under a direct rule a map (width of the source, in)."""
    return weight if source is None else weight.new_empty(source.width, weight.shape[1])


def group_of(operator: Operator, weight: Tensor) -> Tensor:
    """The part of a layer's weight that belongs to its first group, (out/G, in/G, ...)."""
    return operator.canonical(weight).unflatten(0, (operator.groups, -1))[0]


def initial_feedback(
    operator: Operator, weight: Tensor, rule: Rule, rank: int, generator: Generator, source: Source | None
) -> tuple[Feedback, frozenset[str]]:
    """The feedback of a layer, drawn on the CPU and put where its weight is, and the names of what the rule fixes."""
    here = torch.zeros(weight.shape, dtype=weight.dtype) if weight.is_meta else weight.detach().cpu()
    groups = operator.canonical(here).chunk(operator.groups)
    each = [rule.start(operator.group, feedback_like(W, source), rank, generator) for W in groups]
    together = each[0] if len(each) == 1 else {name: torch.stack([start[name] for start in each]) for name in each[0]}
    return {n: tensor.to(weight.device) for n, tensor in together.items()}, frozenset(rule.fixed(each[0]))


def check_clip(clip: object) -> None:
    """Raises `UsageError` for a bound that is not a number above 0."""
    number = isinstance(clip, int | float) and not isinstance(clip, bool)
    if clip is not None and not (number and clip > 0 and not math.isnan(clip)):
        raise UsageError(f"clip={clip!r}: expected: a number above 0, or None")


def check_weight(weight: Tensor) -> None:
    """Raises `UsageError` for a weight that is not real."""
    if not weight.is_floating_point():
        raise UsageError(
            f"its weight is {str(weight.dtype).removeprefix('torch.')}; expected: a real floating-point dtype"
        )


class Linear(RuleLayer, nn.Linear):
    """`nn.Linear` under a learning rule."""

    plain = nn.Linear

    @staticmethod
    def operator_of(plain):
        return LinearOperator()


class _Convolution(RuleLayer):
    @staticmethod
    def operator_of(plain):
        sizes = (plain.kernel_size, plain.stride)
        if plain.padding_mode != "zeros" or plain.padding == "same":
            pads = tuple(plain._reversed_padding_repeated_twice)
            mode = "constant" if plain.padding_mode == "zeros" else plain.padding_mode
            return ConvOperator(*sizes, (0,) * len(plain.stride), plain.dilation, plain.groups, pads, mode)
        padding = (0,) * len(plain.stride) if plain.padding == "valid" else plain.padding
        return ConvOperator(*sizes, padding, plain.dilation, plain.groups)


class Conv1d(_Convolution, nn.Conv1d):
    """`nn.Conv1d` under a learning rule."""

    plain = nn.Conv1d


class Conv2d(_Convolution, nn.Conv2d):
    """`nn.Conv2d` under a learning rule."""

    plain = nn.Conv2d


class Conv3d(_Convolution, nn.Conv3d):
    """`nn.Conv3d` under a learning rule."""

    plain = nn.Conv3d


class _TransposedConvolution(RuleLayer):
    @staticmethod
    def operator_of(plain):
        sizes = (plain.kernel_size, plain.stride, plain.padding, plain.dilation, plain.groups)
        return ConvTransposeOperator(*sizes, output_padding=plain.output_padding)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is None:
            return super().forward(x)
        op = self.operator
        geometry = (list(op.stride), list(op.padding), list(op.kernel_size))
        padding = self._output_padding(x, output_size, *geometry, op.dimensions, list(op.dilation))
        return self._through(replace(op, output_padding=tuple(padding)), x)


class ConvTranspose1d(_TransposedConvolution, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` under a learning rule."""

    plain = nn.ConvTranspose1d


class ConvTranspose2d(_TransposedConvolution, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` under a learning rule."""

    plain = nn.ConvTranspose2d


class ConvTranspose3d(_TransposedConvolution, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` under a learning rule."""

    plain = nn.ConvTranspose3d


BUILT_IN = (Linear, Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
LAYERS: dict[type[nn.Module], type[RuleLayer]] = {layer.plain: layer for layer in BUILT_IN}
"""Which class a plain layer gets under a rule."""


def register_layer(kind: type[nn.Module], operator_of: Callable[[Any], Operator]) -> None:
    """Lets every rule have layers of a further type, from then on.

    `operator_of(layer)` says how the layer's `weight` acts, y = W x + b with its `bias` (or None): for a weight that
    is kept as (in, out), `lambda layer: LinearOperator(transposed=True)`. The layer's own forward pass is replaced by
    the operator's.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UsageError(f"register_layer: {kind!r} is no type of module")
    LAYERS[kind] = _class_of(kind, RuleLayer, operator_of)
    layer_class.cache_clear()


@cache
def layer_class(kind: type[nn.Module]) -> type[RuleLayer] | None:
    """The class that a layer of this type gets under a rule; None where there is none.

    A subclass counts as what it inherits from where it leaves the forward pass alone.
    """
    base = next((base for base in kind.__mro__ if base in LAYERS), None)
    if base is None or kind is base:
        return LAYERS.get(kind)
    ways = ("forward", "_conv_forward", "__call__", "__getattr__", "weight", "bias")
    if any(getattr(kind, way, None) is not getattr(base, way, None) for way in ways):
        return None
    return _class_of(kind, LAYERS[base], LAYERS[base].operator_of)


def _class_of(kind: type[nn.Module], base: type[RuleLayer], operator_of: Callable[[Any], Operator]) -> type[RuleLayer]:
    body = {"plain": kind, "operator_of": staticmethod(operator_of), "__module__": __name__}
    return type(kind.__name__, (base, kind), body)
