"""Puts the layers of a network under a learning rule."""

import re
from collections.abc import Mapping

from torch import Generator, nn

from bench.errors import UsageError
from bench.layers import LAYERS, RuleLayer
from bench.rules.base import Rule, full_rank


def parse_ranks(spec: int | str | None, labels: list[str]) -> dict[str, int | None]:
    """The rank asked of each layer, None for full rank, from `10`, `full`, or `B1=10,B3=4` (the others full).

    Raises `UsageError` for a rank below 1, not a number, or a layer that does not exist.
    """
    if spec is None or spec == "full":
        return dict.fromkeys(labels)
    if "=" not in str(spec):
        return dict.fromkeys(labels, _rank(spec))
    ranks: dict[str, int | None] = dict.fromkeys(labels)
    for part in str(spec).split(","):
        label, _, value = part.partition("=")
        if label not in ranks:
            raise UsageError(f"--rank {spec}: no layer {label!r}; allowed: {', '.join(labels)}")
        if ranks[label] is not None:
            raise UsageError(f"--rank {spec}: layer {label!r} is there twice; allowed: once")
        ranks[label] = _rank(value)
    return ranks


def _rank(value: int | str) -> int:
    if not re.fullmatch(r"[1-9]\d*", str(value)):
        raise UsageError(f"--rank {value}: a rank is a whole number from 1, 'full', or LAYER=RANK[,LAYER=RANK]")
    return int(value)


def convert(
    network: nn.Module,
    names: Mapping[str, str],
    rule: Rule,
    ranks: Mapping[str, int | None],
    generator: Generator,
    clip: float | None = None,
) -> tuple[dict[str, RuleLayer], list[str]]:
    """Replaces, in place, the layers called `names` (label to module name) by layers under `rule`, weights kept.

    Returns the new layers by label, and a note for each rank that was capped at the layer's full rank.
    """
    layers, notes = {}, []
    for label, name in names.items():
        plain = network.get_submodule(name)
        full = full_rank(plain.weight)
        rank = min(ranks[label] or full, full)
        if rule.ranked and rank != (ranks[label] or full):
            notes.append(f"rank {ranks[label]} of {label} capped at {full}, its full rank")
        layers[label] = LAYERS[type(plain)](plain, rule, rank, generator, clip)
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, layers[label])
    return layers, notes
