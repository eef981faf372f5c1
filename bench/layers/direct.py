"""The error that the layers of a direct rule hear: the one at a single place of the network."""

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.layers import RuleLayer


class Source:
    """The error at one place of a network, (examples, width) or one per position, (examples, ..., width).

    It holds for the backward pass in which it came, and for the layers that lead to that place. `error` can be set by
    hand, for a layer on its own.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.error: Tensor | None = None
        self.name = ""
        """Of the layer that gives the network's output."""
        self.task: int | None = None
        self.leads_here: frozenset[int] = frozenset()

    def listen(self, output: nn.Module, place: Literal["output", "hidden"], name: str) -> None:
        """Take the error at the layer that gives the network's output: at its output, or its input (`hidden`)."""
        self.name = name
        if place == "hidden":
            output.register_forward_pre_hook(self._before)
        else:
            output.register_forward_hook(self._after)

    def _before(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._await(inputs[0])

    def _after(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._await(output)

    def _await(self, signal: Tensor) -> None:
        if signal.requires_grad:
            signal.register_hook(partial(self._hear, _nodes_below(signal)))

    def _hear(self, leads_here: frozenset[int], error: Tensor) -> None:
        self.error, self.leads_here = error, leads_here
        self.task = torch._C._current_graph_task_id()

    def heard_by(self, layer: "RuleLayer", node: Any, x: Tensor) -> Tensor:
        """The error for a layer that received x (N, ..., in), as (N, width).

        One per position, (N, ..., width), where its positions are those of x, else their mean. Raises `UsageError`
        where no error has come in this backward pass, the layer does not lead to the place, or the examples are not
        along the first dimension of both.
        """
        current = self.task is None or self.task == torch._C._current_graph_task_id()
        if self.error is None or not current or (self.task is not None and id(node) not in self.leads_here):
            raise UsageError(
                f"layer {layer.label!r} hears no error: in this pass it does not lead to the output {self.name!r}, "
                "from which a direct rule takes it; leave it out with `exclude`, or name another `output`"
            )
        error = self.error[None] if self.error.ndim == 1 else self.error
        if layer.operator.example_dimensions == 1 and error.ndim > 2 and error.shape[:-1] == x.shape[:-1]:
            return error
        if len(error) != len(x):
            raise UsageError(
                f"layer {layer.label!r} received {len(x)} rows, the output {self.name!r} has {len(error)} examples; a "
                "direct rule needs the examples along the first dimension everywhere: leave it out with `exclude`"
            )
        return error.flatten(1, -2).mean(1) if error.ndim > 2 else error


def _nodes_below(signal: Tensor) -> frozenset[int]:
    """The layers under a rule that lead to `signal`, as the ids of their autograd nodes."""
    seen = {signal.grad_fn} - {None}
    waiting = list(seen)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
    return frozenset(id(node) for node in seen if hasattr(node, "layer"))
