"""Detects gradients of a weight under a rule that the rule's layer did not produce.

If something other than its layer also reads a weight, as in `F.linear(x, layer.weight)`, an attention that multiplies
by it, or a decoder tied to it, that use gets the gradient of backpropagation and sends the exact error down. Training
this way silently would present a network as being under a rule that it is not under.
"""

from collections.abc import MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

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
    that the layer made. Of a weight that an embedding shares, gradients are compared only in passes without the layers.
    Nothing is compared in passes through calls under `torch.func`.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = ref(weight)
        self.layers: WeakSet[RuleLayer] = WeakSet()
        self.embedded = False
        """Whether an embedding that shares the weight has been called."""
        self.mapped = self.spent = False
        """Whether there was a call under `torch.func`, and a gradient since then."""
        self.made: dict[int, Tensor | None] = {}
        """By backward pass, the sum of the gradients made; None if it is not compared."""
        asked = weight.requires_grad
        self.handle = weight.requires_grad_(True).register_hook(self._check)
        if not asked:
            weight.requires_grad_(False)
        assert weight._backward_hooks is not None
        others = {key: hook for key, hook in weight._backward_hooks.items() if key != self.handle.id}
        for key, hook in others.items():  # those that were there change the gradient: they come after
            del weight._backward_hooks[key]
            weight._backward_hooks[key] = hook

    def call(self, weight: Tensor | None, mapped: bool) -> None:
        """Records a call of a layer, with the weight itself or, under `torch.func`, perhaps with another."""
        if mapped:
            while weight is not None and torch._C._functorch.is_functorch_wrapped_tensor(weight):
                weight = torch._C._functorch.get_unwrapped(weight)
            if weight is not None and weight.requires_grad:
                self.mapped, self.spent = True, False
        elif self.spent:
            self.mapped = self.spent = False

    def add(self, dW: Tensor) -> None:
        """Records a gradient that a layer makes in the current backward pass."""
        self._add(dW)
        if self.embedded:
            self.made[torch._C._current_graph_task_id()] = None

    def add_embedded(self, inputs: tuple[Tensor | None, ...], _: object, place: int) -> None:
        """Records the gradient that an embedding makes: one of those that its autograd node passes on."""
        if (gradient := inputs[place]) is not None:
            self._add(gradient)

    def _add(self, gradient: Tensor) -> None:
        task = torch._C._current_graph_task_id()
        if task not in self.made:
            self.made[task] = gradient
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._forget, task))
        elif (made := self.made[task]) is not None:
            self.made[task] = made + gradient

    def _forget(self, task: int) -> None:
        self.made.pop(task, None)

    def _check(self, gradient: Tensor | None) -> None:
        task = torch._C._current_graph_task_id()
        called = task in self.made
        made = self.made.pop(task, None)
        self.spent = self.mapped
        if gradient is None or gradient is made or self.mapped or (called and made is None):
            return
        weight = self.weight()
        held = [one for one in self.layers if one.watch is self and one._parameters.get(one.MATRIX, weight) is weight]
        if held and (made is None or not _same(gradient, made)):
            raise UsageError(_message(held[0], made is None or self.embedded))


def _same(a: Tensor, b: Tensor) -> bool:
    a, b = a.to_dense(), b.to_dense()
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


class Family(WeakKeyDictionary):
    """The layers that were converted together. A copy starts empty: the copies of the layers join it."""

    def __reduce__(self) -> tuple:
        return Family, ()

    def __deepcopy__(self, memo: object) -> "Family":
        return Family()


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
    """The watch over a layer's weight, frozen or not; None if the weight is not a parameter."""
    weight = layer._parameters.get(layer.MATRIX)
    if weight is None or (weight.is_inference() and not weight.requires_grad):
        return None
    if weight not in WATCHES:
        WATCHES[weight] = Watch(weight)
    WATCHES[weight].layers.add(layer)
    return WATCHES[weight]


def unwatch(layer: "RuleLayer") -> None:
    """Ends the watch of a layer over its weight."""
    if (watch := layer.watch) is None:
        return
    layer.watch = None
    watch.layers.discard(layer)
    if not watch.layers:
        watch.handle.remove()
        if (weight := watch.weight()) is not None:
            del WATCHES[weight]


def watch_embedding(embedding: nn.Module) -> None:
    """Records the gradients of an embedding that shares its weight with a layer under a rule."""
    if _called not in embedding._forward_hooks.values():
        embedding.register_forward_hook(_called)


def unwatch_embedding(embedding: nn.Module) -> None:
    """Undoes `watch_embedding`."""
    for key in [key for key, hook in embedding._forward_hooks.items() if hook is _called]:
        del embedding._forward_hooks[key]


def _called(embedding: nn.Module, inputs: tuple, output: Tensor) -> None:
    weight = embedding._parameters.get("weight")
    if torch.compiler.is_exporting() or weight is None or weight not in WATCHES:
        return
    watch, mapped = WATCHES[weight], torch._C._are_functorch_transforms_active()
    watch.call(weight, mapped)
    if not mapped and output.requires_grad:
        watch.embedded = True
        watch.mapped |= not _record(watch, weight, output)


def _record(watch: Watch, weight: Tensor, output: Tensor) -> bool:
    """Makes the autograd nodes through which an output reads the weight record their gradients; False if none does."""
    found = False
    edge = torch.autograd.graph.get_gradient_edge(weight)
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        for place, (below, number) in enumerate(node.next_functions):
            if below is edge.node and number == edge.output_nr:
                node.register_hook(partial(watch.add_embedded, place=place))
                found = True
            elif below is not None:
                waiting.append(below)
    return found
