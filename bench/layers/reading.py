"""Modules that read the weights of their layers, `F.linear(x, self.qkv.weight)`, where others call the layers.

They are taken under a rule all the same where their type is known: each such product goes through the layer.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, ClassVar

from torch import nn
from torch.nn import functional as F
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
    """Lets modules of a type multiply by the weights of their own layers with `F.linear`, from then on.

    A subclass is a type of its own.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UsageError(f"register_reader: {kind!r} is not a module type")
    READERS.add(_name(kind))


def read_through_layers(network: nn.Module) -> None:
    """Lets the known modules of a network whose layers are under a rule read their weights through them."""
    for module in network.modules():
        kind: Any = type(module)
        if _name(kind) in READERS and any(isinstance(child, RuleLayer) for child in module.children()):
            module.__class__ = _reader(kind)


def read_plainly(network: nn.Module) -> None:
    """Takes `read_through_layers` back."""
    for module in network.modules():
        if isinstance(module, _Reader):
            module.__class__ = module.plain  # type: ignore[assignment]


class _Reader(nn.Module):
    plain: ClassVar[type[nn.Module]]

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        with _ThroughLayers(child for child in self.children() if isinstance(child, RuleLayer)):
            return super().forward(*arguments, **keywords)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _blank, (self.plain,), self.__getstate__()


class _ThroughLayers(TorchFunctionMode):
    """`F.linear` with the weight of one of some layers is a call of the layer, with the bias that it is given."""

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
    """Those of `F.linear`, however they are given."""
    return input, weight, bias


@cache
def _reader(kind: Any) -> Any:
    return type(kind.__name__, (_Reader, kind), {"plain": kind, "__module__": __name__})


def _blank(plain: Any) -> _Reader:
    kind = _reader(plain)
    return kind.__new__(kind)


def _name(kind: type[nn.Module]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
