"""Detects gradients of a weight under a rule that the rule's layer did not produce.

If something other than its layer also reads a weight, as in `F.linear(x, layer.weight)`, an attention that multiplies
by it, or a decoder tied to it, that use gets the gradient of backpropagation and sends the exact error down. Training
this way silently would present a network as being under a rule that it is not under.
"""

from collections.abc import MutableMapping
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.layers import RuleLayer

SHOWN = 6
"""Most layers named in a message."""


class Watch:
    """Compares each gradient of a weight with what the backward passes of its layers produced.

    If a layer is called once per pass, this needs no copy and no waiting for a GPU: the gradient is the very tensor
    that the layer made. Under `torch.func` nothing is compared.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = ref(weight)
        self.layers: WeakSet[RuleLayer] = WeakSet()
        self.mapped = False
        self.made: dict[int, Tensor] = {}
        self.handle = weight.register_hook(self._check)

    def add(self, dW: Tensor) -> None:
        """Records a gradient that a layer makes in the current backward pass."""
        task = torch._C._current_graph_task_id()
        if task in self.made:
            self.made[task] = self.made[task] + dW
        else:
            self.made[task] = dW
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._forget, task))

    def _forget(self, task: int) -> None:
        self.made.pop(task, None)

    def _check(self, gradient: Tensor | None) -> None:
        made = self.made.pop(torch._C._current_graph_task_id(), None)
        if gradient is None or gradient is made or self.mapped:
            return
        held = [layer for layer in self.layers if layer._parameters.get(layer.MATRIX) is self.weight()]
        if held and (made is None or not _same(gradient, made)):
            raise UsageError(_message(held[0], made is None))


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _message(layer: "RuleLayer", never_called: bool) -> str:
    names = [other.label for other in layer.family if not other.called] if never_called else [layer.label]
    names = names or [layer.label]
    few = ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    calls = "the layers were not called" if never_called else "not by their own layer alone"
    return (
        f"the weights of {few} are read by other code, {calls}, where they would train by backpropagation. "
        "Register a module that reads its layers with F.linear with bench.register_reader, or exclude the layers with "
        "`exclude`; replace a weight penalty by the optimiser's weight decay"
    )


WATCHES: MutableMapping[Tensor, Watch] = WeakTensorKeyDictionary()
"""One per weight; several layers may share a weight."""


def watch(layer: "RuleLayer") -> Watch | None:
    """The watch over a layer's weight; None if the weight is not a parameter or does not learn."""
    weight = layer._parameters.get(layer.MATRIX)
    if weight is None or not weight.requires_grad:
        return None
    if weight not in WATCHES:
        WATCHES[weight] = Watch(weight)
    WATCHES[weight].layers.add(layer)
    return WATCHES[weight]


def unwatch(layer: "RuleLayer") -> None:
    """Ends the watch of a layer over its weight."""
    weight = layer._parameters.get(layer.MATRIX)
    if weight is not None and weight in WATCHES:
        WATCHES[weight].layers.discard(layer)
        if not WATCHES[weight].layers:
            WATCHES.pop(weight).handle.remove()
