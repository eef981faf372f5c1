"""Puts the layers of a network under a learning rule, and restores them."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from operator import index
from typing import Any

import torch
from torch import Generator, nn
from torch.linalg import LinAlgError
from torch.nn.utils import parametrize

from bench.config import parse, stream
from bench.conversion.coverage import (
    conversion_report,
    convertible,
    owner,
    problems_of,
    read_by_attention,
    sequence_first,
    shared_weights,
    wrapped,
)
from bench.errors import UsageError, shown, unknown
from bench.layers import RuleLayer, check_clip, check_network, feedback_like, group_of, layer_class
from bench.layers.direct import Source, source_for
from bench.layers.ranks import Rank, check_ranked, parse_rank, rank_for
from bench.layers.reading import read_plainly, read_through_layers
from bench.layers.watch import Family, unwatch_embedding, watch_embedding
from bench.rules import RULES
from bench.rules.base import Rule, full_rank

Exclude = str | Callable[[str, nn.Module], bool]


def convert(
    module: nn.Module,
    rule: str,
    rank: int | str | Mapping[str, int | str] | None = None,
    *,
    exclude: Exclude | Iterable[Exclude] = (),
    output: str | None = None,
    clip: float | None = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Puts every linear, convolutional and attention layer of `module` under a rule, in place; returns `module`.

    rank: a number, a fraction of a layer's output channels ("1/4"), "full", or a mapping from layers to these, of which
    the last that covers a layer counts, with the others at full rank. A rank above a layer's full rank is capped; in a
    grouped convolution it applies to each group, in attention to each projection.

    exclude: layers to leave unconverted, such as the first, which sends no error down; a function receives a layer's
    name and the layer. Here and in `rank` a name covers all layers inside it, a pattern (`blocks.*.qkv`) all that it
    matches; a layer that is held in several places has several names.

    output: the Linear layer that gives the output, for direct rules; the last Linear layer if None.
    clip: bound on each entry of the errors sent down. seed: for the feedback's initial values, which do
    not depend on the weights, whatever seed those had. options: the rule's.

    Weights are kept. Any optimiser created from `module.parameters()` afterwards then trains with the rule's gradients;
    fixed feedback requires no gradient and never changes. Without targets, rules that read them learn from the error at
    the output instead; a rule that is told them at every layer, such as `drtp`, needs `bench.tell` before each forward
    pass. `conversion_report(module)` lists what is under the rule and what is not; if that is more than half of the
    weights, there is a warning. Raises `UsageError`, leaving the module unchanged, for a name that does not exist, a
    rank that is not allowed, or layers that cannot be put under a rule, naming all of them.
    """
    check_network(module)
    if torch.is_inference_mode_enabled():
        raise UsageError("convert inside torch.inference_mode: its tensors cannot be trained; convert outside of it")
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise UsageError(f"seed={seed!r}: expected: a whole number")
    found = parse(RULES.get(rule), options, f"options of rule {rule}")
    if output is not None and not found.direct:
        raise UsageError(f"output={output!r}: rule {rule!r} is not direct: it has no such layer; leave `output` out")
    check_ranked(found, rank, f"rule {rule!r}")
    check_clip(clip)
    if inside := wrapped(module):
        raise UsageError(f"{inside}: convert the network first, then wrap or compile it")
    modules = dict(module.named_modules())
    aliases = _aliases(module, modules)
    names = [name for name in modules if convertible(name, modules)]
    several = isinstance(exclude, Iterable) and not isinstance(exclude, str | nn.Module)
    kept = _left(names, modules, aliases, exclude if several else [exclude])
    last = _output(modules, names, aliases, output)
    if found.direct and {*kept} - {last} and (second := sequence_first(modules)) is not None:
        raise UsageError(
            f"{shown(second)} has the examples second, a direct rule needs them first in every layer: build it with "
            "batch_first=True"
        )
    if problems := problems_of(kept, modules):
        listed = "; ".join(f"layer {name!r}: {reason}" for name, reason in problems.items())
        raise UsageError(f"{listed}. Exclude layers with exclude={list(problems)}")
    if not kept:
        raise UsageError(f"nothing to convert: no remaining layer can be put under a rule\n{conversion_report(module)}")
    ranks = _ranks(rank, kept, aliases)
    generator = Generator().manual_seed(stream(index(seed), "feedback"))
    layers, _ = convert_layers(module, {n: n for n in kept}, found, ranks, generator, output=last, clip=clip)
    for layer in layers.values():
        for tensor in layer.feedback.values():  # FSDP misreads tensors that are not contiguous
            tensor.data = tensor.data.contiguous()
    report = conversion_report(module)
    if report.share_plain > 0.5:
        more = "print(bench.conversion_report(network)) lists them with the reasons"
        warnings.warn(f"{report.share_plain:.0%} of the weights stay plain: {more}", stacklevel=2)
    return module


def revert(module: nn.Module) -> nn.Module:
    """Turns the layers under a rule back into the original layers, in place; returns `module`.

    Raises `UsageError`, leaving the module unchanged, if a layer's weight was parametrized after conversion.
    """
    check_network(module)
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, RuleLayer)}
    if changed := [name for name, layer in layers.items() if parametrize.is_parametrized(layer)]:
        raise UsageError(f"layers {', '.join(map(repr, changed))} are parametrized: remove the parametrizations first")
    for layer in layers.values():
        layer.to_plain()
    read_plainly(module)
    for other in module.modules():
        unwatch_embedding(other)
        for hooks in (other._forward_hooks, other._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if isinstance(getattr(hook, "__self__", None), Source)]:
                del hooks[key]
    return module


def _aliases(network: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """All names of each module of a network, by the first; a module may be held in several places."""
    first = {module: name for name, module in modules.items()}
    found: dict[str, list[str]] = {name: [] for name in modules}

    def visit(module: nn.Module, name: str, above: frozenset[nn.Module]) -> None:
        found[first[module]].append(name)
        for part, child in module._modules.items():
            if child is not None and child not in above:
                visit(child, f"{name}.{part}" if name else part, above | {child})

    visit(network, "", frozenset({network}))
    return found


def _left(
    names: list[str], modules: Mapping[str, nn.Module], aliases: Mapping[str, list[str]], exclude: Any
) -> list[str]:
    """The names that no entry of `exclude` covers; an attention is excluded together with its output projection.

    Raises `UsageError` for an entry that matches no layer.
    """
    out = set()
    for entry in exclude:
        if callable(entry) and not isinstance(entry, nn.Module | type):
            out |= {name for name in names if entry(name, modules[name])}
            continue
        if not isinstance(entry, str):
            known = [name for name, module in modules.items() if module is entry]
            hint = f"; give its name, {known[0]!r}" if known else ""
            value = type(entry).__name__ if isinstance(entry, nn.Module) else shown(entry)
            raise UsageError(f"exclude: {value} is neither a name, a pattern nor a function of name and layer{hint}")
        meant = {name for name in names if _covers(entry, aliases[name])}
        if not meant and not any(_covers(entry, aliases[name]) for name in modules if name):
            raise unknown("layer", entry, names)
        out |= meant
    return [name for name in names if name not in out and not (read_by_attention(name, modules) and owner(name) in out)]


def _covers(entry: str, names: Iterable[str]) -> bool:
    """Whether a name or a pattern stands for the layer that has these names."""
    return any(name == entry or name.startswith(f"{entry}.") or fnmatchcase(name, str(entry)) for name in names)


def _ranks(
    rank: int | str | Mapping[str, int | str] | None, names: list[str], aliases: Mapping[str, list[str]]
) -> dict[str, Rank]:
    if not isinstance(rank, Mapping):
        return dict.fromkeys(names, parse_rank(rank, "rank="))
    ranks: dict[str, Rank] = dict.fromkeys(names)
    for entry, value in rank.items():
        meant = [name for name in names if _covers(entry, aliases[name])]
        if not meant:
            raise unknown("layer", entry, names)
        ranks |= dict.fromkeys(meant, parse_rank(value, f"rank of {entry!r}: "))
    return ranks


def _output(
    modules: Mapping[str, nn.Module], names: list[str], aliases: Mapping[str, list[str]], output: str | None
) -> str | None:
    if not isinstance(output, str | None):
        raise UsageError(f"output={output!r}: expected: the name of one layer; a direct rule has one output")
    if output is not None:
        if first := next((name for name in modules if output in aliases[name]), None):
            return first
        raise UsageError(f"output: {unknown('layer', output, names)}")
    return next((name for name in reversed(names) if isinstance(modules[name], nn.Linear)), None)


def convert_layers(
    network: nn.Module,
    names: Mapping[str, str],
    rule: Rule,
    ranks: Mapping[str, Rank],
    generator: Generator,
    *,
    output: str | None = None,
    clip: float | None = None,
) -> tuple[dict[str, RuleLayer], list[str]]:
    """Puts the layers called `names` (label to module name) under `rule`, in place, keeping their weights.

    `output` is the module name of the Linear layer that gives the network's output. Returns the layers by label, and a
    note for each rank capped at the layer's full rank. Raises `UsageError` for a layer that cannot be put under a rule,
    or for a direct rule without such an output; the network is then unchanged.
    """
    source = _source(network, rule, output)
    layers, notes = {}, []
    for label, name in names.items():
        plain: Any = network.get_submodule(name)
        told = None if name == output and rule.source == "hidden" else source
        try:
            kind = layer_class(plain.__class__)
            if kind is None:
                raise UsageError(f"{type(plain).__name__} cannot be put under a rule")
            like = feedback_like(group_of(kind.operator_of(plain), getattr(plain, kind.MATRIX)), told)
            wanted, full = rank_for(ranks[label], like), full_rank(like)
            layers[label] = kind.from_plain(plain, rule, min(wanted, full), generator, clip, told)
        except Exception as error:
            for layer in layers.values():
                layer.to_plain()
            if isinstance(error, LinAlgError):
                raise UsageError(f"layer {label!r}: its weight has no singular values; is it finite?") from None
            if isinstance(error, UsageError):
                raise UsageError(f"layer {label!r}: {error}") from None
            raise
        if rule.ranked and wanted > full:
            notes.append(f"rank {wanted} of {label} capped at {full}, its full rank")
    family = Family()
    for label, layer in layers.items():
        layer.label = label
        layer.join(family)
    modules = dict(network.named_modules())
    for others in shared_weights(names.values(), modules).values():
        for other in others:
            if isinstance(modules[other], nn.Embedding):
                watch_embedding(modules[other])
    read_through_layers(network)
    if source is not None and rule.source is not None and output is not None:
        source.listen(network.get_submodule(output), rule.source, output)
    return layers, notes


def _source(network: nn.Module, rule: Rule, output: str | None) -> Source | None:
    if not rule.direct:
        return None
    layer = None if output is None else network.get_submodule(output)
    if not isinstance(layer, nn.Linear):
        raise UsageError("a direct rule needs a Linear layer that gives the network's single output; this one has none")
    return source_for(rule, layer.in_features if rule.source == "hidden" else layer.out_features)
