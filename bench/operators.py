"""Linear and Conv2d as linear operators.

A layer is y = W x + b. An operator knows, for any weight-shaped tensor, how to apply it, how to send an error down
through it, and the weight gradient of a batch. The rules are written in these terms alone, so one rule serves every
kind of layer.

Shapes, Linear: W (out, in), x (..., in), g (..., out); leading dimensions are examples and positions ("rows").
"""

from abc import ABC, abstractmethod

from torch import Size, Tensor
from torch.nn import functional as F


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
        return g.flatten(0, -2)
