"""Networks that train together as one program: the members of a population.

Their tensors are stacked along a leading axis and the step of one network is mapped over it, so a step of all takes as
many launches as a step of one. A member trains as it would alone, within rounding. Only dropout masks differ: each
member draws independent masks from one shared generator, and the same members in the same order draw the same masks
again.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from bench.training.learner import Learner, Trainee

Tensors = dict[str, Tensor]


def can_share(learner: Learner) -> bool:
    """Whether the learner can be part of a population.

    Its layers must receive no error but their own, the rule must draw no random numbers, and the precision must not be
    bfloat16, for which torch cannot map batch norm.
    """
    return learner.rule.source is None and not learner.rule.draws and learner.precision != "bfloat16"


class Population(Trainee):
    """M learners whose configurations differ only in seed and rank, each of which `can_share`.

    Factors of ranks below the largest are padded with zeros, which no rule changes. The parameters and buffers of a
    member's network become views of the stacked ones: reading or changing a member reads or changes the population. A
    member whose numbers are no longer finite leaves the others untouched. If a tensor learns only in some members, such
    as a P that is square in the others, the optimiser gets those members' rows.
    """

    def __init__(self, members: Sequence[Learner]) -> None:
        self.members = members
        networks = [member.network for member in members]
        held = set(map(id, members[0].all_feedback()))
        self.feedback_names = {name for name, p in networks[0].named_parameters() if id(p) in held}
        own: list[Tensors] = [dict(network.named_parameters()) for network in networks]
        with torch.no_grad():
            stacks = _stack(own)
            buffers = _stack([dict(network.named_buffers()) for network in networks])
        learn = {name: [member[name].requires_grad for member in own] for name in stacks}
        self.parts = {name: _parts(stacks[name], learn[name]) for name in stacks if any(learn[name])}
        self.parameters = {name: stacks[name] for name in self.parts}
        self.others = buffers | {name: stack for name, stack in stacks.items() if name not in self.parts}
        self.learned: list[str] | None = None

    def weights(self) -> list[nn.Parameter]:
        return self._optimised(feedback=False)

    def feedback(self) -> list[nn.Parameter]:
        return self._optimised(feedback=True)

    def _optimised(self, feedback: bool) -> list[nn.Parameter]:
        names = [name for name in self.parts if (name in self.feedback_names) == feedback]
        return [parameter for name in names for parameter in self.parts[name].values()]

    def loss(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return vmap(self._loss, in_dims=(0, 0, None, None))(self.parameters, self.others, inputs, targets)

    def gradients(self, optimiser: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        told = self.members[0].as_told(targets, inputs.dtype)
        in_dims = 0, 0, 0, 0, None if told is None else 0
        differentiate = vmap(grad(self._told_loss, has_aux=True), in_dims=in_dims, randomness="different")
        with torch.no_grad():  # `grad` differentiates anyway; autograd would keep another graph
            found, (loss, outputs) = differentiate(self.parameters, self.others, inputs, targets, told)
        if self.learned is None:
            self.learned = self._learned(optimiser, inputs[0], targets[0])
        optimiser.zero_grad(set_to_none=True)
        for name in self.learned:
            gradient = found[name].contiguous()  # contiguous, as fused optimisers require
            for row, parameter in self.parts[name].items():
                parameter.grad = gradient[row]
        return loss, outputs

    def _loss(self, parameters: Tensors, others: Tensors, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a member whose network has these tensors."""
        one = self.members[0]
        network: Any = partial(functional_call, one.network, (parameters, others))
        return replace(one, network=network).loss(inputs, targets)

    def _told_loss(
        self, parameters: Tensors, others: Tensors, inputs: Tensor, targets: Tensor, told: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        self.members[0].tell(told)
        loss, outputs = self._loss(parameters, others, inputs, targets)
        self.members[0].tell(None)
        return loss, (loss.detach(), outputs.detach())

    def _learned(self, optimiser: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> list[str]:
        """The parameters that get a gradient: `grad` returns zeros instead of none, and the optimiser would apply
        decay.
        """
        learner = copy.deepcopy(self.members[0])
        for name, parameter in learner.network.named_parameters():
            parameter.requires_grad_(name in self.parts)
        for layer in learner.layers.values():  # feedback that is fixed in this member may learn in another
            layer.fixed = frozenset()
        learner.gradients(optimiser, inputs, targets)
        return [name for name, p in learner.network.named_parameters() if p.grad is not None]


def _parts(stack: Tensor, learn: Sequence[bool]) -> dict[int | EllipsisType, nn.Parameter]:
    """A stack (M, ...) as one parameter, `...`; if it learns only in some members, their rows as one parameter each."""
    if all(learn):
        return {...: nn.Parameter(stack)}
    return {row: nn.Parameter(stack[row]) for row, learns in enumerate(learn) if learns}


def _stack(members: Sequence[Tensors]) -> Tensors:
    """The tensors of all members, padded with zeros to one shape and stacked by name; the originals become views."""
    stacks = {}
    for name, first in members[0].items():
        tensors = [member[name] for member in members]
        shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
        stacks[name] = first.new_zeros(len(members), *shape)
        for row, tensor in zip(stacks[name], tensors, strict=True):
            view = row[tuple(map(slice, tensor.shape))]
            view.copy_(tensor)
            tensor.data = view
    return stacks
