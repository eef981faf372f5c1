"""Puts the layers of a network under a learning rule, and back."""

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from inspect import signature
from typing import Any

from torch import Generator, nn

from bench.config import parse
from bench.errors import UsageError, cut, shown, unknown
from bench.layers import LAYERS, RuleLayer, Source, feedback_like
from bench.rules import RULES
from bench.rules.base import Rule, full_rank

Rank = int | Fraction | None
"""A number, a fraction of the output channels, or None for full rank."""
DIGITS = 20
"""Most characters of a rank."""


def convert(
    module: nn.Module,
    rule: str,
    rank: int | str | Mapping[str, int | str] | None = None,
    *,
    exclude: Iterable[str] = (),
    output: str | None = None,
    clip: float | None = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Puts every Linear and Conv2d layer of `module` under a rule, in place, weights kept; returns `module`.

    rank: a number, a fraction of a layer's output channels ("1/4"), "full", or a mapping from layers to these, the
    others full. A rank above a layer's full rank is capped there.
    exclude: layers that stay plain, such as the first, which sends no error down. A name stands for all layers in it.
    output: the Linear layer that gives the output, for direct rules; the last Linear layer if None.
    clip: bound on each entry of the errors sent down. seed: of the feedback's initial values. options: the rule's.

    The gradients then are the rule's, for any optimiser over `module.parameters()`; feedback that the rule holds fixed
    requires none, and stays. Without targets, rules that read them learn from the error at the output instead. Raises
    `UsageError`, the module as it was, for a name that does not exist, a rank that is not allowed, or a layer that
    cannot be under a rule.
    """
    found = parse(RULES.get(rule), options, f"options of rule {rule}")
    if rank is not None and not found.ranked:
        raise UsageError(f"--rank {rank}: rule {rule!r} has no rank")
    plain = [name for name, layer in module.named_modules() if type(layer) in LAYERS]
    left_out = list(exclude)
    for name in left_out:
        if not any(_within(layer, name) for layer in plain):
            raise unknown("layer", name, plain)
    names = {name: name for name in plain if not any(_within(name, other) for other in left_out)}
    if isinstance(rank, Mapping):
        for name in rank:
            if name not in names:
                raise unknown("layer", name, names)
        ranks = dict.fromkeys(names) | {name: parse_rank(value) for name, value in rank.items()}
    else:
        ranks = dict.fromkeys(names, parse_rank(rank))
    linear = [name for name in plain if isinstance(module.get_submodule(name), nn.Linear)]
    last = output or (linear[-1] if linear else None)
    put_under(module, names, found, ranks, Generator().manual_seed(seed), output=last, clip=clip)
    return module


def revert(module: nn.Module) -> nn.Module:
    """Turns the layers under a rule into plain ones, in place, weights kept; returns `module`."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, RuleLayer):
            allowed = signature(layer.plain).parameters
            sizes = {key: getattr(layer, key) for key in layer.__constants__ if key in allowed}
            plain = layer.plain(**sizes, bias=layer.bias is not None, device="meta")
            plain.weight, plain.bias = layer.weight, layer.bias
            _replace(module, name, plain.train(layer.training))
    return module


def _within(layer: str, name: str) -> bool:
    return layer == name or layer.startswith(f"{name}.")


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, layer)


def parse_ranks(spec: int | str | None, labels: list[str]) -> dict[str, Rank]:
    """The rank asked of each layer, from `10`, `1/4`, `full`, or `B1=10,B3=1/4` (the others full).

    Raises `UsageError` for a rank that is not allowed, or a layer that does not exist.
    """
    if "=" not in str(spec):
        return dict.fromkeys(labels, parse_rank(spec))
    ranks: dict[str, Rank] = dict.fromkeys(labels)
    for part in str(spec).split(","):
        label, _, value = part.partition("=")
        if label not in ranks:
            raise UsageError(f"--rank {cut(str(spec))}: no layer {shown(label)}; allowed: {', '.join(labels)}")
        if ranks[label] is not None:
            raise UsageError(f"--rank {cut(str(spec))}: layer {label!r} is there twice; allowed: once")
        ranks[label] = parse_rank(value)
    return ranks


def parse_rank(value: int | str | None) -> Rank:
    """One rank. Raises `UsageError` for a number below 1 or a fraction outside (0, 1]."""
    if value is None or value == "full":
        return None
    text = str(value)
    if len(text) <= DIGITS and re.fullmatch(r"[1-9][0-9]*", text):
        return int(text)
    if len(text) <= DIGITS and re.fullmatch(r"[0-9]+/[1-9][0-9]*|[0-9]*\.[0-9]+", text):
        fraction = Fraction(text)
        if 0 < fraction <= 1:
            return fraction
    allowed = "a whole number from 1, a fraction in (0, 1] such as 1/4 or 0.25, 'full', or LAYER=RANK[,LAYER=RANK]"
    raise UsageError(f"--rank {cut(str(value))}: a rank is {allowed}")


def put_under(
    network: nn.Module,
    names: Mapping[str, str],
    rule: Rule,
    ranks: Mapping[str, Rank],
    generator: Generator,
    *,
    output: str | None = None,
    clip: float | None = None,
) -> tuple[dict[str, RuleLayer], list[str]]:
    """Replaces, in place, the layers called `names` (label to module name) by layers under `rule`, weights kept.

    `output` is the module name of the Linear layer that gives the network's output. Returns the new layers by label,
    and a note for each rank that was capped at the layer's full rank. Raises `UsageError`, the network as it was, for a
    layer that cannot be under a rule, or a direct rule where there is no such output.
    """
    source = _source(network, rule, output)
    layers, notes = {}, []
    for label, name in names.items():
        plain = network.get_submodule(name)
        told = None if name == output and rule.source == "hidden" else source
        like, asked = feedback_like(plain.weight, told), ranks[label]
        full = full_rank(like)
        wanted = max(1, round(asked * like.shape[0])) if isinstance(asked, Fraction) else asked or full
        if rule.ranked and wanted > full:
            notes.append(f"rank {wanted} of {label} capped at {full}, its full rank")
        try:
            layers[label] = LAYERS[type(plain)].under(plain, rule, min(wanted, full), generator, clip, told)
        except UsageError as error:
            raise UsageError(f"layer {label!r}: {error}") from None
    for label, name in names.items():
        _replace(network, name, layers[label])
    if source is not None:
        source.listen(network.get_submodule(output), rule.source)
    return layers, notes


def _source(network: nn.Module, rule: Rule, output: str | None) -> Source | None:
    if rule.source is None:
        return None
    layer = None if output is None else network.get_submodule(output)
    if not isinstance(layer, nn.Linear):
        raise UsageError("a direct rule needs a Linear layer that gives the network's single output; this one has none")
    return Source(layer.in_features if rule.source == "hidden" else layer.out_features)
