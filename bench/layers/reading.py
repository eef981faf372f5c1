"""Modules that read their layers' weights, as in `F.linear(x, self.qkv.weight)`, instead of calling the layers.

Known types can still be put under a rule: each such product is routed through the layer.
"""

from collections.abc import Iterable
from contextlib import nullcontext
from functools import cache
from typing import Any, ClassVar

from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from bench.errors import UsageError
from bench.layers._rule_layer import RuleLayer

READERS = {
    "torchvision.models.swin_transformer.ShiftedWindowAttention",
    "torchvision.models.swin_transformer.ShiftedWindowAttentionV2",
    "torchvision.models.video.swin_transformer.ShiftedWindowAttention3d",
    "timm.models.beit.Attention",
    "timm.models.eva.EvaAttention",
    "timm.models.swin_transformer_v2.WindowAttention",
}
"""Full names of the types."""


def register_reader(kind: type[nn.Module]) -> None:
    """Allows modules of a type to multiply by the weights of their own layers with `F.linear`, from then on.

    A subclass is a separate type.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UsageError(f"register_reader: {kind!r} is not a module type")
    READERS.add(_name(kind))


def read_through_layers(network: nn.Module) -> None:
    """Routes the weight reads of a network's known modules through their layers, if these are under a rule."""
    for module in network.modules():
        kind: Any = type(module)
        if _name(kind) in READERS and any(isinstance(child, RuleLayer) for child in module.children()):
            module.__class__ = _reader(kind)


def read_plainly(network: nn.Module) -> None:
    """Undoes `read_through_layers`."""
    for module in network.modules():
        if isinstance(module, _Reader):
            module.__class__ = module.plain  # type: ignore[assignment]


class _Reader(nn.Module):
    plain: ClassVar[type[nn.Module]]

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        layers = [child for child in self.children() if isinstance(child, RuleLayer)]
        cached = parametrize.cached() if any(map(parametrize.is_parametrized, layers)) else nullcontext()
        with cached, _ThroughLayers(layers):
            return super().forward(*arguments, **keywords)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _blank, (self.plain,), self.__getstate__()


class _ThroughLayers(TorchFunctionMode):
    """Turns `F.linear` with the weight of one of these layers into a call of the layer, with the given bias.

    The weights are known by object: those of parametrized layers must be cached.
    """

    def __init__(self, layers: Iterable[RuleLayer]) -> None:
        super().__init__()
        self.layers = {id(layer.weight): layer for layer in layers}

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = kwargs or {}
        if func is F.linear:
            x, weight, bias = _arguments(*args, **given)
            if layer := self.layers.get(id(weight)):
                return layer.through(x, bias, layer.operator)
        return func(*args, **given)


def _arguments(input: Any, weight: Any, bias: Any = None) -> tuple[Any, Any, Any]:
    """The arguments of `F.linear`, positional or by keyword."""
    return input, weight, bias


@cache
def _reader(kind: Any) -> Any:
    return type(kind.__name__, (_Reader, kind), {"plain": kind, "__module__": __name__})


def _blank(plain: Any) -> _Reader:
    kind = _reader(plain)
    return kind.__new__(kind)


def _name(kind: type[nn.Module]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
