"""PyTorch's linear and convolutional layers under a rule, and registration of layers from other packages."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from bench.errors import UsageError
from bench.layers._registry import LAYERS, class_of, layer_class
from bench.layers._rule_layer import RuleLayer
from bench.operators import ConvOperator, ConvTransposeOperator, LinearOperator, Operator


class Linear(RuleLayer, nn.Linear):
    """`nn.Linear` under a learning rule."""

    plain = nn.Linear

    @staticmethod
    def operator_of(plain: Any) -> Operator:
        return LinearOperator()


def _each(plain: Any, name: str) -> tuple[int, ...]:
    """A setting of a convolution for each dimension; PyTorch also takes a single number for all."""
    value = getattr(plain, name)
    return (value,) * (plain.weight.ndim - 2) if isinstance(value, int) else tuple(value)


class _Convolution(RuleLayer):
    @staticmethod
    def operator_of(plain: Any) -> Operator:
        sizes, dilation = (_each(plain, "kernel_size"), _each(plain, "stride")), _each(plain, "dilation")
        none = (0,) * len(dilation)
        if plain.padding_mode != "zeros" or plain.padding == "same":
            pads = tuple(plain._reversed_padding_repeated_twice)
            mode = "constant" if plain.padding_mode == "zeros" else plain.padding_mode
            return ConvOperator(*sizes, none, dilation, plain.groups, pads, mode)
        padding = none if plain.padding == "valid" else _each(plain, "padding")
        return ConvOperator(*sizes, padding, dilation, plain.groups)


class Conv1d(_Convolution, nn.Conv1d):
    """`nn.Conv1d` under a learning rule."""

    plain = nn.Conv1d


class Conv2d(_Convolution, nn.Conv2d):
    """`nn.Conv2d` under a learning rule."""

    plain = nn.Conv2d


class Conv3d(_Convolution, nn.Conv3d):
    """`nn.Conv3d` under a learning rule."""

    plain = nn.Conv3d


class _TransposedConvolution(RuleLayer):
    operator: ConvTransposeOperator
    _output_padding: Callable[..., list[int]]

    @staticmethod
    def operator_of(plain: Any) -> Operator:
        sizes = (_each(plain, "kernel_size"), _each(plain, "stride"), _each(plain, "padding"), _each(plain, "dilation"))
        return ConvTransposeOperator(*sizes, plain.groups, output_padding=_each(plain, "output_padding"))

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is None:
            return super().forward(input)
        op = self.operator
        geometry = (list(op.stride), list(op.padding), list(op.kernel_size))
        padding = self._output_padding(input, output_size, *geometry, op.dimensions, list(op.dilation))
        return self.through(input, self.bias, replace(op, output_padding=tuple(padding)))


class ConvTranspose1d(_TransposedConvolution, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` under a learning rule."""

    plain = nn.ConvTranspose1d


class ConvTranspose2d(_TransposedConvolution, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` under a learning rule."""

    plain = nn.ConvTranspose2d


class ConvTranspose3d(_TransposedConvolution, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` under a learning rule."""

    plain = nn.ConvTranspose3d


BUILT_IN = (Linear, Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
LAYERS.update((layer.plain, layer) for layer in BUILT_IN)


class _Registered(RuleLayer):
    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Takes one input, by whatever name the layer's own forward pass has for it."""
        return super().forward(*inputs, *named.values())


def register_layer(kind: type[nn.Module], operator_of: Callable[[Any], Operator]) -> None:
    """Makes every rule work on another layer type from then on.

    `operator_of(layer)` describes how the layer's `weight` acts, y = W x + b with its `bias` (or None): for a weight
    stored as (in, out), `lambda layer: LinearOperator(transposed=True)`. The operator replaces the layer's own forward
    pass.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UsageError(f"register_layer: {kind!r} is not a module type")
    if not callable(operator_of):
        raise UsageError(f"register_layer: {operator_of!r} is not callable; expected: a function of the layer")
    LAYERS[kind] = class_of(kind, _Registered, operator_of)
    layer_class.cache_clear()
