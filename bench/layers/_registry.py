"""The class that an unconverted layer gets under a rule."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import nn

from bench.errors import UsageError
from bench.operators import Operator

if TYPE_CHECKING:
    from bench.layers import RuleLayer

LAYERS: "dict[type[nn.Module], type[RuleLayer]]" = {}
"""By type of the unconverted layer."""


@cache
def layer_class(kind: type[nn.Module]) -> "type[RuleLayer] | None":
    """The class that a layer of this type gets under a rule; None if there is none.

    A subclass counts as the type it inherits from if it does not change the forward pass.
    """
    base = next((base for base in kind.__mro__ if base in LAYERS), None)
    if base is None or kind is base:
        return LAYERS.get(kind)
    ways = ("forward", "_conv_forward", "_output_padding", "__call__", "__getattr__", "weight", "bias")
    if any(getattr(kind, way, None) is not getattr(base, way, None) for way in ways):
        return None
    return class_of(kind, LAYERS[base], LAYERS[base].operator_of)


def class_of(kind: type[nn.Module], base: Any, operator_of: Callable[[Any], Operator]) -> "type[RuleLayer]":
    """The class of a layer of type `kind` under a rule, inheriting from `base`."""
    body = {"plain": kind, "operator_of": staticmethod(operator_of), "__module__": __name__}
    return type(kind.__name__, (base, kind), body)


def blank(plain: Any) -> "RuleLayer":
    """An empty layer under a rule, of the class for an unconverted one, to be given its state."""
    kind: Any = layer_class(plain)
    if kind is None:
        raise UsageError(f"{plain.__module__}.{plain.__qualname__}: call bench.register_layer for it, then load")
    return kind.__new__(kind)
