"""The signal that layers receive under a direct rule: the error at one place in the network, or the targets."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from bench.errors import UsageError
from bench.rules.base import Rule

if TYPE_CHECKING:
    from bench.layers import RuleLayer


class Source:
    """The error at one place in a network, (examples, width) or one per position, (examples, ..., width).

    It is valid for the backward pass in which it arrived, and for the layers that lead to that place; a layer that
    leads there through several calls of the output receives the sum of their errors. `error` can be set by hand, for a
    single layer.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.error: Tensor | None = None
        self.name = ""
        """Name of the layer that gives the network's output."""
        self.task: int | None = None
        self.heard: list[tuple[frozenset[int], Tensor]] = []
        """For this backward pass: which layers led to the place, and the error there."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"task": None, "heard": []}

    def listen(self, output: nn.Module, place: Literal["output", "hidden"], name: str) -> None:
        """Records the error at the layer that gives the network's output: at its output, or at its input (`hidden`)."""
        self.name = name
        if place == "hidden":
            output.register_forward_pre_hook(self._before, with_kwargs=True)
        else:
            output.register_forward_hook(self._after)

    def _before(self, module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        self._await(inputs[0] if inputs else named["input"])

    def _after(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._await(output)

    def _await(self, signal: Tensor) -> None:
        if signal.requires_grad:
            signal.register_hook(partial(self._hear, _nodes_below(signal)))

    def _hear(self, leads_here: frozenset[int], error: Tensor) -> None:
        if self.task != (task := torch._C._current_graph_task_id()):
            self.task, self.heard = task, []
        self.heard.append((leads_here, error))

    def heard_by(self, layer: "RuleLayer", node: Any, x: Tensor, targets: Tensor | None) -> Tensor:
        """The error for a layer that received x (N, ..., in), see `at_rows`.

        Raises `UsageError` if no error has arrived in this backward pass, if the layer does not lead to the place, or
        if errors of several shapes arrived.
        """
        if self.error is not None:
            return at_rows(self.error, layer, x, "the error has")
        current = self.task == torch._C._current_graph_task_id()
        errors = [error for leads_here, error in self.heard if current and id(node) in leads_here]
        if not errors:
            raise UsageError(
                f"layer {layer.label!r} receives no error: in this pass it does not lead to the output {self.name!r}, "
                "where a direct rule takes the error; exclude it with `exclude`, or name another `output`"
            )
        if len(shapes := {tuple(error.shape) for error in errors}) > 1:
            written = ", ".join(map(str, sorted(shapes)))
            raise UsageError(
                f"layer {layer.label!r} leads to the output {self.name!r} in calls of shapes {written}, whose errors "
                "cannot be added: exclude it with `exclude`"
            )
        return at_rows(sum(errors[1:], errors[0]), layer, x, f"the output {self.name!r} has")


class Told(Source):
    """The targets instead of an error: one-hot labels (examples, width), given to every layer.

    Those given by `bench.tell` are used up by a backward pass: afterwards the layers have none.
    """

    lent: tuple[Iterable["RuleLayer"], Tensor] | None = None
    waiting = 0
    """Batches of targets given since the last backward pass."""

    def lend(self, layers: Iterable["RuleLayer"], targets: Tensor) -> None:
        """Gives layers the targets for one backward pass."""
        for layer in layers:
            layer.targets = targets
        self.lent = layers, targets
        self.waiting += 1

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"lent": None, "waiting": 0}

    def check_call(self, layer: "RuleLayer") -> None:
        """Raises `UsageError` for a call that a backward pass repeats and that may have had earlier targets."""
        if self.waiting > 1 and torch._C._current_graph_task_id() != -1:
            batches, self.waiting = self.waiting, 0
            raise UsageError(
                f"layer {layer.label!r} is recomputed after bench.tell gave the targets of {batches} batches: with "
                "checkpointing, call backward after each batch"
            )

    def _take_back(self, layers: Iterable["RuleLayer"], targets: Tensor) -> None:
        self.waiting = 0
        for layer in layers:
            if layer.targets is targets:
                layer.targets = None

    def heard_by(self, layer: "RuleLayer", node: Any, x: Tensor, targets: Tensor | None) -> Tensor:
        """The targets for a layer that received x. Raises `UsageError` if there are none, or for a different width."""
        if targets is None:
            raise UsageError(
                f"layer {layer.label!r} received no targets; expected: bench.tell(network, one-hot labels "
                f"(N, {self.width})) before each forward pass"
            )
        if targets.shape[-1] != self.width:
            raise UsageError(f"targets of shape {tuple(targets.shape)}; expected: one-hot labels (N, {self.width})")
        mapped = torch._C._are_functorch_transforms_active()
        if self.lent is not None and (mapped or targets.is_set_to(self.lent[1])):
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._take_back, *self.lent))
            self.lent = None
        return at_rows(targets, layer, x, "its targets have")


def source_for(rule: Rule, width: int) -> Source | None:
    """The signal, `width` wide, that layers receive directly under the rule; None if each uses only its own error."""
    if rule.told == "all":
        return Told(width)
    return None if rule.source is None else Source(width)


def at_rows(signal: Tensor, layer: "RuleLayer", x: Tensor, whose: str) -> Tensor:
    """A signal of the network's examples for a layer that received x (N, ..., in), as (N, width).

    One per position, (N, ..., width), if its positions are those of x, otherwise their mean. Raises `UsageError` unless
    the examples are along the first dimension of both.
    """
    signal = signal[None] if signal.ndim == 1 else signal
    if layer.operator.example_dimensions == 1 and signal.ndim > 2 and signal.shape[:-1] == x.shape[:-1]:
        return signal
    if len(signal) != len(x):
        raise UsageError(
            f"layer {layer.label!r} received {len(x)} rows, {whose} {len(signal)} examples; a direct rule needs the "
            "examples along the first dimension everywhere: exclude it with `exclude`"
        )
    return signal.flatten(1, -2).mean(1) if signal.ndim > 2 else signal


def _nodes_below(signal: Tensor) -> frozenset[int]:
    """The layers under a rule that lead to `signal`, as ids of their autograd nodes."""
    waiting = [] if signal.grad_fn is None else [signal.grad_fn]
    seen = set(waiting)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
    return frozenset(id(node) for node in seen if hasattr(node, "layer"))
