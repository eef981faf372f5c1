"""Layers as linear operators.

A layer is y = W x + b. Its operator can, for any weight-shaped tensor, apply it, send an error down through it, and
compute the weight gradient of a batch. Rules are written in these terms only, so one rule works for every kind of
layer.

Shapes, linear: W (out, in), x (..., in), g (..., out); leading dimensions are examples and positions ("rows").
Shapes, convolution of D dimensions: W (out, in, *kernel), x (N, in, *size), g (N, out, *size'); the rows are examples
and positions of g.

A convolution of G groups is G operators side by side, each of out/G and in/G channels: its W is (out, in/G, *kernel).
If a layer keeps its weight in another layout, `canonical` converts it to the shape above and `native` converts it back.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Size, Tensor
from torch.nn import functional as F
from torch.nn import grad


class Operator(ABC):
    """The linear map of one layer; W may be the forward weight or any feedback tensor of the same shape."""

    groups: int = 1

    @property
    def group(self) -> Self:
        """The operator for a single group."""
        return self

    @property
    @abstractmethod
    def example_dimensions(self) -> int:
        """Number of dimensions of one example's input, without positions or with a fixed number of them."""

    def canonical(self, weight: Tensor, /) -> Tensor:
        """The layer's weight in the shape of W."""
        return weight

    def native(self, W: Tensor, /) -> Tensor:
        """W in the layout of the layer's weight."""
        return W

    @abstractmethod
    def apply(self, W: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        """W x + bias."""

    @abstractmethod
    def transpose(self, B: Tensor, g: Tensor, x_shape: Size) -> Tensor:
        """The error g (at the output) sent down through B, in the shape of the input; W-transpose g if B is W."""

    @abstractmethod
    def outer(self, g: Tensor, x: Tensor) -> Tensor:
        """The gradient of a weight whose output had the error g and whose input was x, summed over rows."""

    @abstractmethod
    def project(self, P: Tensor, g: Tensor) -> Tensor:
        """The low-dimensional error g P, with P (out, r) applied to the channels of each row."""

    @abstractmethod
    def rows(self, g: Tensor) -> Tensor:
        """g as a matrix (rows, out): one row per example and position."""

    @abstractmethod
    def pool(self, x: Tensor) -> Tensor:
        """The mean of x over positions, (N, in)."""

    @abstractmethod
    def spread(self, h: Tensor, x_shape: Size) -> Tensor:
        """h (N, in), divided by the number of positions and sent to each of them: the transpose of `pool`."""


@dataclass(frozen=True)
class LinearOperator(Operator):
    """y = x W' + b. `transposed`: the layer keeps its weight as (in, out)."""

    transposed: bool = False

    example_dimensions = 1

    def canonical(self, weight: Tensor, /) -> Tensor:
        return weight.T if self.transposed else weight

    native = canonical

    def apply(self, W: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, W, bias)

    def transpose(self, B: Tensor, g: Tensor, x_shape: Size) -> Tensor:
        return g @ B

    def outer(self, g: Tensor, x: Tensor) -> Tensor:
        return self.rows(g).T @ self.rows(x)

    def project(self, P: Tensor, g: Tensor) -> Tensor:
        return g @ P

    def rows(self, g: Tensor) -> Tensor:
        return g if g.ndim == 2 else g.reshape(-1, g.shape[-1])

    def pool(self, x: Tensor) -> Tensor:
        return x.flatten(1, -2).mean(1) if x.ndim > 2 else x

    def spread(self, h: Tensor, x_shape: Size) -> Tensor:
        positions = x_shape[1:-1]
        return (h / positions.numel()).view(len(h), *[1] * len(positions), -1).expand(x_shape)


@dataclass(frozen=True)
class ConvOperator(Operator):
    """y = W * x + b in 1, 2 or 3 dimensions; sizes are given per dimension.

    padding: zeros at both ends of each dimension. pads, mode: further padding of x, as arguments of `F.pad`.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    pads: tuple[int, ...] = ()
    mode: str = "constant"

    @property
    def group(self) -> Self:
        return replace(self, groups=1)

    @property
    def dimensions(self) -> int:
        return len(self.kernel_size)

    @property
    def example_dimensions(self) -> int:
        return 1 + self.dimensions

    def apply(self, W: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        conv = getattr(F, f"conv{self.dimensions}d")
        return conv(self._padded(x), W, bias, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, B: Tensor, g: Tensor, x_shape: Size) -> Tensor:
        padded = [size + before + after for size, before, after in zip(x_shape[2:], *self._ends(), strict=True)]
        geometry = zip(padded, g.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        left_over = [x - ((y - 1) * s - 2 * p + d * (k - 1) + 1) for x, y, k, s, p, d in geometry]
        send = getattr(F, f"conv_transpose{self.dimensions}d")
        sent = send(g, B, None, self.stride, self.padding, left_over, self.groups, self.dilation)
        return self._unpadded(sent, x_shape)

    def outer(self, g: Tensor, x: Tensor) -> Tensor:
        x = self._padded(x)
        shape = (g.shape[1], x.shape[1] // self.groups, *self.kernel_size)
        gradient = getattr(grad, f"conv{self.dimensions}d_weight")
        return gradient(x, shape, g, self.stride, self.padding, self.dilation, self.groups)

    def project(self, P: Tensor, g: Tensor) -> Tensor:
        return getattr(F, f"conv{self.dimensions}d")(g, P.T[(..., *[None] * self.dimensions)])

    def rows(self, g: Tensor) -> Tensor:
        return g.movedim(1, -1).flatten(0, -2)

    def pool(self, x: Tensor) -> Tensor:
        return x.mean(tuple(range(2, x.ndim)))

    def spread(self, h: Tensor, x_shape: Size) -> Tensor:
        return (h / x_shape[2:].numel())[(..., *[None] * self.dimensions)].expand(x_shape)

    def _ends(self) -> tuple[Sequence[int], Sequence[int]]:
        """What `pads` adds before and after, in dimension order; `F.pad` lists the last dimension first."""
        pads = self.pads or (0,) * 2 * self.dimensions
        return pads[::2][::-1], pads[1::2][::-1]

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pads, self.mode) if self.pads else x

    def _unpadded(self, e: Tensor, x_shape: Size) -> Tensor:
        """The transpose of `_padded`: errors of copied entries are added to the original entry."""
        if not self.pads or self.mode == "constant":
            return F.pad(e, [-pad for pad in self.pads]) if self.pads else e
        for dimension, (before, after) in enumerate(zip(*self._ends(), strict=True), 2):
            places = torch.arange(x_shape[dimension], dtype=torch.float32, device=e.device)[None, None]
            copied = F.pad(places, (before, after), self.mode)[0, 0].long()
            shape = [*e.shape[:dimension], x_shape[dimension], *e.shape[dimension + 1 :]]
            e = e.new_zeros(shape).index_add(dimension, copied, e)
        return e


@dataclass(frozen=True)
class ConvTransposeOperator(ConvOperator):
    """y = W x + b, where W x is the transpose of a convolution. The layer stores its weight as (in, out/G, *kernel)."""

    output_padding: tuple[int, ...] = ()

    def canonical(self, weight: Tensor, /) -> Tensor:
        return weight.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)

    native = canonical

    def apply(self, W: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        send = getattr(F, f"conv_transpose{self.dimensions}d")
        weight = self.native(W)
        return send(x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation)

    def transpose(self, B: Tensor, g: Tensor, x_shape: Size) -> Tensor:
        conv = getattr(F, f"conv{self.dimensions}d")
        sent = conv(g, self.native(B), None, self.stride, self.padding, self.dilation, self.groups)
        return sent[(..., *map(slice, x_shape[2:]))]

    def outer(self, g: Tensor, x: Tensor) -> Tensor:
        gradient = getattr(grad, f"conv{self.dimensions}d_weight")
        shape = (x.shape[1], g.shape[1] // self.groups, *self.kernel_size)
        beyond = [end for places in self._beyond()[::-1] for end in (0, places)]
        x = F.pad(x, beyond) if any(beyond) else x
        return self.canonical(gradient(g, shape, x, self.stride, self.padding, self.dilation, self.groups))

    def _beyond(self) -> list[int]:
        """Places past the end of x, in each dimension, to which a convolution of the output leads."""
        return [more // step for more, step in zip(self.output_padding, self.stride, strict=True)]
