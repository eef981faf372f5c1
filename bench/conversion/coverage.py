"""Which parts of a network are, can be and cannot be under a learning rule."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from bench.errors import UsageError
from bench.layers import LAYERS, RuleLayer, check_network, check_weight, layer_class
from bench.rules import RULES

REGISTER = "bench.register_layer declares how such a layer's weight acts"
ACCUMULATION = "'Accumulated gradients' in docs/your-own-network.md"
WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "OptimizedModule", "ScriptModule")


@dataclass(frozen=True)
class ConversionReport:
    """Which parts of a network are under a rule.

    under: by layer name, its kind, its rule (the class of a rule that is not built in) with rank, and its number of
    feedback parameters. plain: by module name, for weights of two or more dimensions that are not under a rule, the
    reason and the number of weights.
    """

    under: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    plain: dict[str, tuple[str, int]] = field(default_factory=dict)
    weights_under: int = 0
    scale_free: frozenset[str] = frozenset()
    """Names of the feedback tensors whose gradient does not grow with the loss."""
    source: str = ""
    """Under a direct rule, the layer that gives the network's output, whose error all layers receive."""

    @property
    def weights_plain(self) -> int:
        return sum(weights for _, weights in self.plain.values())

    @property
    def share_plain(self) -> float:
        """Share of the weights with two or more dimensions that is not under a rule."""
        return self.weights_plain / max(1, self.weights_under + self.weights_plain)

    @property
    def feedback(self) -> int:
        """Number of feedback parameters."""
        return sum(feedback for *_, feedback in self.under.values())

    def __str__(self) -> str:
        rows = [(shown(name), kind, rule) for name, (kind, rule, _) in self.under.items()]
        left = [(shown(name), "plain", reason) for name, (reason, _) in self.plain.items()]
        widths = [max((len(row[i]) for row in rows + left), default=0) for i in range(2)]
        lines = [f"{name:{widths[0]}}  {kind:{widths[1]}}  {what}" for name, kind, what in rows + left]
        total = f"{self.weights_under:,} weights under a rule, {self.weights_plain:,} plain ({self.share_plain:.0%})"
        lines.append(f"{total}; {self.feedback:,} feedback parameters")
        if self.source:
            lines.append(f"all layers receive the error of {self.source!r}, taken as the network's output")
        if self.scale_free:
            names = " and ".join(sorted(self.scale_free))
            lines.append(
                f"gradients of {names} do not grow with the loss; before accumulating or scaling, see {ACCUMULATION}"
            )
        return "\n".join(lines)


def shown(name: str) -> str:
    return name or "(the network itself)"


def conversion_report(network: nn.Module) -> ConversionReport:
    """Lists what in a network is under a rule, and what is not, with the reason. `print` it."""
    check_network(network)
    modules = dict(network.named_modules())
    under, plain, counted, weights_under = {}, {}, set(), 0
    shared = shared_weights([name for name, layer in modules.items() if isinstance(layer, RuleLayer)], modules)
    passed = any(layer.called for layer in modules.values() if isinstance(layer, RuleLayer))
    for name, layer in modules.items():
        if isinstance(layer, RuleLayer):
            feedback = sum(tensor.numel() for tensor in layer.feedback.values())
            rank = f", rank {layer.rank}" if layer.rule.ranked else ""
            tied = f"; shares its weight with {', '.join(shared[name])}" if name in shared else ""
            called = "; never called in passes with gradients" if passed and not layer.called else ""
            under[name] = (layer.plain.__name__, f"{RULES.name_of(type(layer.rule))}{rank}{tied}{called}", feedback)
            weights_under += 0 if id(weight_of(layer)) in counted else layer.weight.numel()
            parts = [
                layer.feedback,
                *([layer.get_submodule("parametrizations")] if parametrize.is_parametrized(layer) else []),
            ]
            counted |= {id(p) for p in chain(layer.parameters(recurse=False), *(part.parameters() for part in parts))}
    for name, layer in modules.items():
        matrices = [p for p in layer._parameters.values() if p is not None and _is_matrix(p, layer)]
        weights = {id(p): p for p in matrices if id(p) not in counted}
        counted |= weights.keys()
        if weights:
            plain[name] = (_reason(name, layer, modules), sum(0 if is_lazy(p) else p.numel() for p in weights.values()))
    layers = [layer for layer in modules.values() if isinstance(layer, RuleLayer)]
    scale_free = frozenset().union(*(layer.rule.scale_free for layer in layers))
    source = next((layer.source.name for layer in layers if layer.source is not None), "")
    return ConversionReport(under, plain, weights_under, scale_free, source)


def _is_matrix(parameter: Tensor, layer: nn.Module) -> bool:
    """Whether a parameter is a weight of two or more dimensions; of one input or output only in known layer types."""
    if is_lazy(parameter) or parameter.squeeze().ndim >= 2:
        return True
    return parameter.ndim >= 2 and isinstance(layer, tuple(LAYERS)) and parameter is weight_of(layer)


def _reason(name: str, layer: nn.Module, modules: Mapping[str, nn.Module]) -> str:
    kind = type(layer).__name__
    if convertible(name, modules):
        return problem_of(layer) or "not converted"
    if isinstance(layer, parametrize.ParametrizationList):
        return "parametrized; convert first and parametrize afterwards"
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return f"{kind}: a table, which sends no error down; other code that reads its weight does so exactly"
    if isinstance(layer, nn.MultiheadAttention) and not layer._qkv_same_embed_dim:
        return f"{kind} with kdim or vdim keeps three weights of different widths"
    if read_by_attention(name, modules):
        return f"{kind}: {type(modules[owner(name)]).__name__} reads its weight without calling it"
    if any(issubclass(type(layer), base) for base in LAYERS):
        return f"{kind} makes its own weight or forward pass; {REGISTER}"
    return f"no handler for {kind}; {REGISTER}"


def convertible(name: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a layer is of a type that can be put under a rule, or was before its weight was parametrized."""
    layer = modules[name]
    if isinstance(layer, RuleLayer):
        return True
    if read_by_attention(name, modules) and not convertible(owner(name), modules):
        return False
    if isinstance(layer, nn.MultiheadAttention) and not layer._qkv_same_embed_dim:
        return False
    kind = type(layer).__mro__[1] if parametrize.is_parametrized(layer) else type(layer)
    return layer_class(kind) is not None


def read_by_attention(name: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a layer is the output projection of an `nn.MultiheadAttention`, which reads its weight."""
    return name != "" and isinstance(modules.get(owner(name)), nn.MultiheadAttention)


def owner(name: str) -> str:
    """The name of the module that contains a layer."""
    return name.rpartition(".")[0]


def weight_of(layer: nn.Module) -> Tensor | None:
    """The parameter of a layer that is, or would be, under a rule."""
    return layer._parameters.get("in_proj_weight" if isinstance(layer, nn.MultiheadAttention) else "weight")


def problem_of(layer: nn.Module) -> str | None:
    """Why a convertible layer cannot be put under a rule; None if it can."""
    if isinstance(layer, RuleLayer):
        return "is already under a rule; bench.revert restores it"
    if parametrize.is_parametrized(layer):
        return "is parametrized; convert first and parametrize afterwards"
    weight = weight_of(layer)
    if weight is None:
        return "has a weight computed by a hook (weight_norm, spectral_norm, prune); convert first, then add it"
    if is_lazy(weight):
        return "is lazy; run a batch through the network first"
    if type(weight) is not nn.Parameter:
        return f"has a weight of type {type(weight).__name__}"
    try:
        check_weight(weight)
    except UsageError as error:
        return str(error)
    if taken := [name for name in RuleLayer.OWN if hasattr(layer, name)]:
        return f"has its own attributes called {', '.join(taken)}"
    return None


def problems_of(names: Iterable[str], modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """Why layers cannot be put under a rule together, by name."""
    alone = {name: reason for name in names if (reason := problem_of(modules[name]))}
    together, tied = set(map(modules.get, names)), {}
    for name, others in shared_weights(names, modules).items():
        for other in others:
            if modules[other] not in together and not isinstance(modules[other], nn.Embedding):
                tied[name] = f"shares its weight with {other!r}, which stays plain"
    return tied | alone


def sequence_first(modules: Mapping[str, nn.Module]) -> str | None:
    """An attention or a recurrent layer that has the examples second, converted or not; None if there is none.

    It shows the layout of the network, in which a direct rule would take the positions of a layer for examples.
    """
    kinds = nn.MultiheadAttention | nn.RNNBase
    return next(
        (name for name, module in modules.items() if isinstance(module, kinds) and not module.batch_first), None
    )


def shared_weights(names: Iterable[str], modules: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """The layers whose weight other modules also hold, each with the names of these modules."""
    holders: dict[int, list[str]] = {}
    for name, module in modules.items():
        for parameter in module._parameters.values():
            holders.setdefault(id(parameter), []).append(name)
    weights = {name: weight_of(modules[name]) for name in names}
    others = {n: [h for h in holders[id(w)] if h != n] for n, w in weights.items() if w is not None}
    return {name: held for name, held in others.items() if held}


def wrapped(network: nn.Module) -> str | None:
    """The wrapper, for parallel training or from a compiler, that contains a network; None if there is none."""
    for name, module in network.named_modules():
        kinds: set[Any] = {kind.__name__ for kind in type(module).__mro__}
        if wrapper := kinds.intersection(WRAPPERS):
            return f"{shown(name)} is a {wrapper.pop()}"
    return None
