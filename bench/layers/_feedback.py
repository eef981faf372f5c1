"""The initial feedback of a layer, and the requirements for a layer to have feedback."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from bench.errors import UsageError, shown
from bench.layers.direct import Source
from bench.operators import Operator
from bench.rules.base import Feedback, Rule


def feedback_like(weight: Tensor, source: Source | None) -> Tensor:
    """The map that feedback replaces: the layer's weight, or under a direct rule a map (width of the source, in)."""
    return weight if source is None else weight.new_empty(source.width, weight.shape[1])


def group_of(operator: Operator, weight: Tensor) -> Tensor:
    """The part of a layer's weight that belongs to its first group, (out/G, in/G, ...)."""
    return operator.canonical(weight).unflatten(0, (operator.groups, -1))[0]


def initial_feedback(
    operator: Operator, weight: Tensor, rule: Rule, rank: int, generator: Generator, source: Source | None
) -> tuple[Feedback, frozenset[str]]:
    """The feedback of a layer, drawn on the CPU and moved to the weight's device, and the names of fixed tensors."""
    with torch.device("cpu"):  # whatever the default device is
        here = torch.zeros(weight.shape, dtype=weight.dtype) if weight.is_meta else weight.detach().cpu()
        groups = operator.canonical(here).chunk(operator.groups)
        each = [rule.init_feedback(feedback_like(W, source), rank, generator) for W in groups]
    together = each[0] if len(each) == 1 else {name: torch.stack([group[name] for group in each]) for name in each[0]}
    return {n: tensor.to(weight.device) for n, tensor in together.items()}, frozenset(rule.fixed(each[0]))


def check_clip(clip: Any) -> None:
    """Raises `UsageError` for a bound that is not a number above 0."""
    if isinstance(clip, bool) or not (clip is None or (hasattr(clip, "__float__") and clip > 0)):
        raise UsageError(f"clip={clip!r}: expected: a number above 0, or None")


def check_weight(weight: Tensor) -> None:
    """Raises `UsageError` for a weight that is empty or not of a real floating-point dtype."""
    if not weight.numel():
        raise UsageError(f"its weight is empty, of shape {tuple(weight.shape)}")
    if not weight.is_floating_point() or weight.dtype.itemsize < 2:
        raise UsageError(
            f"its weight is {str(weight.dtype).removeprefix('torch.')}; expected: a real floating-point dtype "
            "of 16 bits or more"
        )


def check_network(network: object) -> None:
    """Raises `UsageError` for what is not a network."""
    if not isinstance(network, nn.Module):
        raise UsageError(f"{shown(network)} of type {type(network).__name__}; expected: a network, an nn.Module")
