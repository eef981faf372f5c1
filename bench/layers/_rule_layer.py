"""A layer under a learning rule: PyTorch's own layer, with the rule's feedback and backward pass."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self, SupportsIndex

import torch
from torch import Generator, Tensor, nn
from torch.func import vmap

from bench.errors import UsageError
from bench.layers._feedback import check_clip, check_network, check_weight, group_of, initial_feedback
from bench.layers._function import Mapped, Unmapped
from bench.layers._registry import blank
from bench.layers.direct import Source, Told
from bench.layers.ranks import check_ranked, parse_rank, rank_for
from bench.layers.watch import Family, Watch, unwatch, watch
from bench.operators import Operator
from bench.rules import RULES
from bench.rules.base import Feedback, Response, Rule, Signals, full_rank


class RuleLayer(nn.Module, ABC):
    """A layer under a learning rule.

    Takes the arguments of the PyTorch layer, plus `rule`, a name or a `Rule`; `rank`, a number or a fraction of the
    output channels ("1/4"), full if None and capped at full rank; `clip`, a bound on each entry of the error sent down;
    `generator`, for the feedback's initial values.

    A layer of several groups has feedback for each, stacked along a leading dimension; a rank applies to a group's
    channels.

    `targets` is set before each forward pass if the rule is told them: at the output layer, one-hot labels or
    regression targets (rows, out); at every layer, one-hot labels (N, classes).

    Tensors that the rule declares `fixed` are parameters that do not require a gradient.
    """

    plain: ClassVar[type[nn.Module]]
    MATRIX: ClassVar[str] = "weight"
    """Name of the parameter that is W."""
    operator: Operator
    weight: Tensor
    bias: Any
    undrawn = False
    """Whether the feedback is uninitialised memory, after `to_empty` of a layer on the meta device."""
    OWN: ClassVar = (
        *("operator", "rule", "rank", "clip", "source", "targets", "fixed", "feedback", "label", "family", "called"),
        *("unwatched", "watch", "undrawn"),
    )
    """Attributes that the PyTorch layer does not have."""

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
        if not isinstance(rule, Rule):
            raise UsageError(f"rule={rule!r}: expected: a name or a Rule")
        if rule.direct:
            raise UsageError("a direct rule needs the whole network; expected: bench.convert")
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
        plain: Any,
        rule: Rule,
        rank: int,
        generator: Generator,
        clip: float | None,
        source: Source | None,
    ) -> Self:
        """Puts a PyTorch layer under a rule: the same object, with its parameters, hooks and attributes."""
        operator = cls.operator_of(plain)
        given, fixed = initial_feedback(operator, getattr(plain, cls.MATRIX), rule, rank, generator, source)
        plain.__class__ = cls
        plain._take_over(operator, rule, rank, given, fixed, clip, source)
        return plain

    def _take_over(
        self,
        operator: Operator,
        rule: Rule,
        rank: int,
        given: Feedback,
        fixed: frozenset[str],
        clip: float | None,
        source: Source | None,
    ) -> None:
        self.operator = operator
        self.rule, self.rank, self.clip, self.source = rule, rank, clip, source
        self.targets: Tensor | None = None
        self.fixed = fixed
        self.feedback = nn.ParameterDict({n: nn.Parameter(tensor, n not in fixed) for n, tensor in given.items()})
        self.label, self.called = "", False
        self.join(Family())
        W, first = self._by_group()[0]
        self.unwatched = source is None and rule.feedback_matrix(W, first) is W
        self.watch: Watch | None = None
        self._watch()

    def to_plain(self) -> None:
        """Turns the layer back into the original one, the same object."""
        unwatch(self)
        del self.feedback
        del self.family[self]
        for name in self.OWN:
            self.__dict__.pop(name, None)
        self.__class__ = self.plain  # type: ignore[assignment]

    @staticmethod
    @abstractmethod
    def operator_of(plain: Any) -> Operator:
        """The linear map of a PyTorch layer. Raises `UsageError` for a layer without a supported map."""

    def forward(self, input: Tensor) -> Tensor:
        return self.through(input, getattr(self, "bias", None), self.operator)

    def through(self, x: Tensor, bias: Tensor | None, operator: Operator) -> Tensor:
        """W x + bias, with a bias or operator other than the layer's own."""
        function, single = self.function(), x.ndim == operator.example_dimensions
        x = x[None] if single else x
        y = function.apply(self, operator, x, self.weight, bias, self.targets, *self.feedback.values())
        return y[0] if single else y

    def function(self) -> type[Mapped]:
        """The autograd function for a call, recorded by the layer."""
        if self.undrawn:
            raise UsageError(
                f"layer {self.label!r}: its feedback is uninitialised after to_empty; load a state dict that contains "
                "it, or call the layer's reset_feedback()"
            )
        if isinstance(self.source, Told):
            self.source.check_call(self)
        mapped = torch._C._are_functorch_transforms_active()
        if torch.is_grad_enabled():
            self.__dict__["called"] = True
        if not self.unwatched:
            weight = self._parameters.get(self.MATRIX)
            other = self.watch is None or self.watch.weight() is not weight
            if other and not mapped and not torch.compiler.is_exporting():  # an export lends the layer its own tensors
                self._watch()
            if self.watch is not None:
                self.watch.call(weight, mapped)
        return Mapped if mapped else Unmapped

    def respond(self, signals: Signals, feedback: Feedback) -> Response:
        """The error sent down and the gradients of the feedback, computed by the rule for each group."""
        if signals.op.groups == 1:
            return self.rule.backward(signals, feedback)
        groups, group = signals.op.groups, signals.op.group
        parted = signals.targets is not None and self.source is None

        def one(W: Tensor, x: Tensor, g: Tensor, targets: Tensor | None, feedback: Feedback) -> Response:
            return self.rule.backward(replace(signals, op=group, W=W, x=x, g=g, targets=targets), feedback)

        W = signals.W.unflatten(0, (groups, -1))
        targets = signals.targets.unflatten(1, (groups, -1)) if parted else signals.targets
        x, g = (tensor.unflatten(1, (groups, -1)) for tensor in (signals.x, signals.g))
        each = vmap(one, (0, 1, 1, 1 if parted else None, 0), out_dims=(1, 0), randomness="different")
        sent, gradients = each(W, x, g, targets, feedback)
        return sent.flatten(1, 2), gradients

    def feedback_matrix(self) -> Tensor | None:
        """The tensor that replaces the weight on the way down, (out, in/G, ...); None if no single tensor does."""
        each = [self.rule.feedback_matrix(W, feedback) for W, feedback in self._by_group()]
        matrices = [matrix for matrix in each if matrix is not None]
        return torch.cat(matrices) if len(matrices) > 1 else each[0]

    def reset_feedback(self) -> None:
        """Lets the rule reinitialise the feedback in place; after `to_empty`, draws it from PyTorch's generator."""
        if self.undrawn:
            W = getattr(self, self.MATRIX)
            given, _ = initial_feedback(self.operator, W, self.rule, self.rank, torch.default_generator, self.source)
            for name, tensor in given.items():
                self.feedback[name].data.copy_(tensor)
            self.undrawn = False
            return
        for W, feedback in self._by_group():
            self.rule.reset(W, feedback)

    def _by_group(self) -> list[tuple[Tensor, Feedback]]:
        W, groups = self.operator.canonical(self.weight), self.operator.groups
        if groups == 1:
            return [(W, dict(self.feedback))]
        parts = [{name: tensor[group] for name, tensor in self.feedback.items()} for group in range(groups)]
        return list(zip(W.chunk(groups), parts, strict=True))

    def join(self, family: Family) -> None:
        """Makes this one of the layers that were converted together."""
        self.family = family
        family[self] = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in getattr(self, "__constants__", ()) and "operator" in self.__dict__:
            operator = self.operator_of(self)
            if operator.groups != self.operator.groups:
                raise UsageError(f"{name}={value!r}: feedback is for {self.operator.groups} groups; revert first")
            self.operator = operator

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        super().register_parameter(name, param)
        if name == self.MATRIX and "watch" in self.__dict__:
            self._watch()

    def _watch(self) -> None:
        found = None if self.unwatched else watch(self)
        if found is not self.watch:
            unwatch(self)
            self.watch = found

    def _apply(self, *arguments: Any, **keywords: Any) -> Self:
        meta = any(tensor.is_meta for tensor in self.feedback.values())
        super()._apply(*arguments, **keywords)
        self.undrawn |= meta and not any(tensor.is_meta for tensor in self.feedback.values())
        self._watch()
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.undrawn &= not all(f"{prefix}feedback.{name}" in state_dict for name in self.feedback)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "watch"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(state)
        self.join(self.family)
        self.watch = None
        self._watch()

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return blank, (self.plain,), self.__getstate__()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rule={type(self.rule).__name__}, rank={self.rank}"


def tell(network: nn.Module, targets: Tensor) -> None:
    """Gives the targets of the next batch to all layers that are told targets everywhere, as under `drtp`.

    targets: one-hot labels (N, classes), or (N, ..., classes) for a network with one output per position. A backward
    pass uses them up. Raises `UsageError` for targets that are not such a tensor, or a network without such layers.
    """
    check_network(network)
    if not isinstance(targets, Tensor):
        raise UsageError(f"targets of type {type(targets).__name__}; expected: a tensor of one-hot labels (N, classes)")
    if targets.ndim < 2:
        raise UsageError(f"targets of shape {tuple(targets.shape)}; expected: one-hot labels (N, classes)")
    told: dict[Told, list[RuleLayer]] = {}
    for layer in network.modules():
        if isinstance(layer, RuleLayer) and isinstance(layer.source, Told):
            told.setdefault(layer.source, []).append(layer)
    if not told:
        raise UsageError("no layer of this network is told targets; expected: a network under a rule such as 'drtp'")
    for source, layers in told.items():
        source.lend(layers, targets)
