"""Augmentations that move pixels or set them to black."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from bench.training.augment.base import Augmentation


class Flip(Augmentation):
    """Mirrors half of the images left to right."""

    moves_pixels = True

    def draw(self, n: int, generator: Generator) -> Tensor:
        return torch.rand(n, generator=generator) < 0.5

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        n = len(images)  # row selection is several times as fast as torch.where on the CPU
        rows = torch.arange(n, device=images.device) + n * drawn
        return torch.cat((images, images.flip(-1))).index_select(0, rows)


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Rotates each image about its centre by an angle from U(-degrees, degrees), nearest neighbour."""

    degrees: float

    def draw(self, n: int, generator: Generator) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * math.radians(self.degrees)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        x, y = _centres(width, drawn), _centres(height, drawn)[:, None]
        cos, sin = drawn.cos()[:, None, None], drawn.sin()[:, None, None]
        grid = drawn.new_empty(len(images), 2, height, width)  # faster to write and read than pairs
        torch.sub(cos * x, sin * y, out=grid[:, 0])
        torch.add(sin * x, cos * y, out=grid[:, 1])
        grid = grid.to(images.dtype).movedim(1, -1)
        return F.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class Crop(Augmentation):
    """Pads each image with `pixels` of black and crops it back to its size at a uniformly random place."""

    moves_pixels = True
    pixels: int

    def draw(self, n: int, generator: Generator) -> Tensor:
        return torch.rand(n, 2, generator=generator)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        frames = F.pad(images, [self.pixels] * 4).unfold(2, height, 1).unfold(3, width, 1)
        top, left = (drawn * (2 * self.pixels + 1)).long().unbind(1)
        return frames[torch.arange(len(images), device=images.device), :, top, left]


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Blackens a square of `size` pixels, clipped to the frame, centred on a uniformly random pixel.

    DeVries and Taylor 2017, arXiv:1708.04552. If `size` is even, that pixel is below and to the right of the middle.
    """

    moves_pixels = True
    size: int

    def draw(self, n: int, generator: Generator) -> Tensor:
        return torch.rand(n, 2, generator=generator)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        rows, columns = (self._hidden(n, place) for n, place in zip(images.shape[-2:], drawn.unbind(1), strict=True))
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)

    def _hidden(self, n: int, place: Tensor) -> Tensor:
        """Which of n rows or columns are covered by the squares, (N, n)."""
        first = (place * n).long() - self.size // 2
        offsets = torch.arange(n, device=place.device) - first[:, None]
        return (offsets >= 0) & (offsets < self.size)


def _centres(n: int, like: Tensor) -> Tensor:
    """Coordinates of n pixels in a frame from -1 to 1."""
    return (torch.arange(n, device=like.device, dtype=like.dtype) * 2 + 1) / n - 1
