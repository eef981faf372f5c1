"""The cost of training a network under a rule."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from bench.config import Config
from bench.data.base import Data
from bench.layers import Linear, RuleLayer
from bench.layers.direct import source_for
from bench.rules.base import Rule, Signals
from bench.training.alignment import observe
from bench.training.batches import Batches
from bench.training.learner import Learner, step
from bench.training.optimisers import optimiser_of


def parameters_of(learner: Learner) -> dict[str, int]:
    """Numbers of forward parameters, of feedback parameters, and of learning parameters among both."""
    weights, feedback = learner.weights(), learner.all_feedback()
    kinds = {"forward": weights, "feedback": feedback, "trainable": weights + learner.feedback()}
    return {kind: sum(tensor.numel() for tensor in tensors) for kind, tensors in kinds.items()}


def first_batch(config: Config, data: Data) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the first batch of the training split, in order and not augmented."""
    ((inputs, targets),) = islice(Batches(data.train, data, config).in_order(), 1)
    return inputs, targets


def flops_of_step(config: Config, learner: Learner, inputs: Tensor, targets: Tensor) -> int:
    """Floating-point operations in the matrix products of one training step, counted on a copy of the network."""
    learner = copy.deepcopy(learner)
    learner.network.train()
    return flops_of(partial(step, learner, optimiser_of(config, learner), inputs, targets))


def flops_of(function: Callable[[], object]) -> int:
    """Floating-point operations in the matrix products of a call.

    Attention counts as two products forward and four backward on every device: fused kernels perform other numbers, and
    PyTorch does not count those of the CPU.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


class Flops(NamedTuple):
    """Floating-point operations in the matrix products of layers under a rule, in one training step.

    error_path counts what the error sent down takes; feedback_update is the rest of the rule's work in that step.
    """

    forward: int
    error_path: int
    weight_gradient: int
    feedback_update: int


def flops_by_layer(learner: Learner, inputs: Tensor, targets: Tensor) -> dict[str, Flops]:
    """The cost of each layer under the rule in a training step on a batch. The learner is unchanged."""
    heard = observe(learner, inputs, targets)
    return {label: cost(layer, heard[label].signals) for label, layer in learner.layers.items()}


def total(by_layer: dict[str, Flops]) -> Flops:
    """The sum over layers."""
    return Flops(*map(sum, zip(*by_layer.values(), strict=True)))


@torch.no_grad()
def cost(layer: RuleLayer, signals: Signals) -> Flops:
    """The cost of one layer whose backward pass receives `signals`."""
    with _Operations() as forward:
        layer.operator.apply(signals.W, signals.x, layer.bias)
    with _Operations() as weight_gradient:
        layer.operator.outer(signals.g, signals.x)
    fresh = replace(signals)
    with _Operations() as backward:
        (sent, _), _ = layer.respond(fresh, dict(layer.feedback)), fresh.dW
    error_path, whole = backward.flops_of(sent), backward.flops()
    return Flops(forward.flops(), error_path, weight_gradient.flops(), whole - error_path - weight_gradient.flops())


class Operations(TorchDispatchMode, ABC):
    """Reports every operation that is executed inside."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: to skip the compiler, PyTorch would import it first, which takes over a second."""
        return False

    @abstractmethod
    def report(self, flops: int, read: list[Tensor], given: list[Tensor], is_view: bool) -> None:
        """Is called after an operation, with its FLOPs, its inputs and its outputs."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = function(*args, **kwargs)
        count = flop_registry.get(function.overloadpacket)
        flops = count(*args, **kwargs, out_val=given) if count else 0
        self.report(flops, _tensors((args, kwargs)), _tensors(given), function.is_view)
        return given


class _Operations(Operations):
    """The operations executed inside, in order: FLOPs, input tensors, output tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[int, list[Tensor], list[Tensor]]] = []

    def report(self, flops: int, read: list[Tensor], given: list[Tensor], is_view: bool) -> None:
        self.done.append((flops, read, given))

    def flops(self) -> int:
        return sum(flops for flops, _, _ in self.done)

    def flops_of(self, result: Tensor) -> int:
        """FLOPs of the operations that `result` depends on; views of the same memory count as one tensor."""
        needed, flops = {_memory(result)}, 0
        for count, read, given in reversed(self.done):
            if needed.intersection(map(_memory, given)):
                needed.update(map(_memory, read))
                flops += count
        return flops


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def example(rule: Rule) -> tuple[float, float]:
    """Feedback parameters relative to weights, and FLOPs of the error path relative to backpropagation's.

    For a 512 x 512 Linear layer at rank 10 and batch 128, with a direct signal 10 wide. Backpropagation's error path
    takes as many FLOPs as the forward pass.
    """
    source = source_for(rule, 10)
    layer = Linear.from_plain(nn.Linear(512, 512), rule, 10, Generator().manual_seed(0), None, source)
    activity = torch.zeros(128, 512)
    heard = torch.zeros(128, 10) if source else None
    flops = cost(layer, Signals(layer.operator, layer.weight, activity, activity, targets=heard, direct=heard))
    feedback = sum(tensor.numel() for tensor in layer.feedback.values())
    return feedback / layer.weight.numel(), flops.error_path / flops.forward
