"""Linear and Conv2d as linear operators.

A layer is y = W x + b. An operator knows, for any weight-shaped tensor, how to apply it, how to send an error down
through it, and the weight gradient of a batch. The rules are written in these terms alone, so one rule serves every
kind of layer.

Shapes, Linear: W (out, in), x (..., in), g (..., out); leading dimensions are examples and positions ("rows").
Shapes, Conv2d: W (out, in, k, k), x (N, in, H, W), g (N, out, H', W'); the rows are examples and positions of g.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Size, Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


class Operator(ABC):
    """The linear map of one layer; W stands for the forward weight or any feedback tensor of its kind."""

    @abstractmethod
    def apply(self, W: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        """W x + bias."""

    @abstractmethod
    def transpose(self, B: Tensor, g: Tensor, x_shape: Size) -> Tensor:
        """The error g (at the output) sent down through B, in the shape of the input: W-transpose g where B is W."""

    @abstractmethod
    def outer(self, g: Tensor, x: Tensor) -> Tensor:
        """The gradient of a weight whose output had the error g and whose input was x, summed over rows."""

    @abstractmethod
    def project(self, P: Tensor, g: Tensor) -> Tensor:
        """The low-dimensional error g P, with P (out, r) acting on the channels of each row."""

    @abstractmethod
    def rows(self, g: Tensor) -> Tensor:
        """g as a matrix (rows, out): one row for each example and position."""

    @abstractmethod
    def pool(self, x: Tensor) -> Tensor:
        """The mean of x over positions, (N, in)."""

    @abstractmethod
    def spread(self, h: Tensor, x_shape: Size) -> Tensor:
        """h (N, in) sent to every position alike, over their number: the transpose of `pool`."""


class LinearOperator(Operator):
    """y = x W' + b."""

    def apply(self, W, x, bias):
        return F.linear(x, W, bias)

    def transpose(self, B, g, x_shape):
        return g @ B

    def outer(self, g, x):
        return self.rows(g).T @ self.rows(x)

    def project(self, P, g):
        return g @ P

    def rows(self, g):
        return g if g.ndim == 2 else g.flatten(0, -2)

    def pool(self, x):
        return x.flatten(1, -2).mean(1) if x.ndim > 2 else x

    def spread(self, h, x_shape):
        positions = x_shape[1:-1]
        return (h / positions.numel()).view(len(h), *[1] * len(positions), -1).expand(x_shape)


@dataclass(frozen=True)
class ConvOperator(Operator):
    """y = W * x + b, one group, zero padding."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def apply(self, W, x, bias):
        return F.conv2d(x, W, bias, self.stride, self.padding, self.dilation)

    def transpose(self, B, g, x_shape):
        geometry = zip(
            x_shape[2:], g.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True
        )
        left_over = [x - ((y - 1) * s - 2 * p + d * (k - 1) + 1) for x, y, k, s, p, d in geometry]
        return F.conv_transpose2d(g, B, None, self.stride, self.padding, left_over, 1, self.dilation)

    def outer(self, g, x):
        shape = (g.shape[1], x.shape[1], *self.kernel_size)
        return conv2d_weight(x, shape, g, self.stride, self.padding, self.dilation)

    def project(self, P, g):
        return F.conv2d(g, P.T[:, :, None, None])

    def rows(self, g):
        return g.movedim(1, -1).flatten(0, -2)

    def pool(self, x):
        return x.mean((2, 3))

    def spread(self, h, x_shape):
        return (h / x_shape[2:].numel())[:, :, None, None].expand(x_shape)
