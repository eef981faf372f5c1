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


class _Convolution(RuleLayer):
    @staticmethod
    def operator_of(plain: Any) -> Operator:
        sizes = (plain.kernel_size, plain.stride)
        if plain.padding_mode != "zeros" or plain.padding == "same":
            pads = tuple(plain._reversed_padding_repeated_twice)
            mode = "constant" if plain.padding_mode == "zeros" else plain.padding_mode
            return ConvOperator(*sizes, (0,) * len(plain.stride), plain.dilation, plain.groups, pads, mode)
        padding = (0,) * len(plain.stride) if plain.padding == "valid" else plain.padding
        return ConvOperator(*sizes, padding, plain.dilation, plain.groups)


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
        sizes = (plain.kernel_size, plain.stride, plain.padding, plain.dilation, plain.groups)
        return ConvTransposeOperator(*sizes, output_padding=plain.output_padding)

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
    LAYERS[kind] = class_of(kind, _Registered, operator_of)
    layer_class.cache_clear()
