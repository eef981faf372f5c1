"""Augmentations of image batches, as tensor operations on the device.

Each draws its random numbers for a whole epoch at once, on the CPU, so that runs on any device see the same ones.
Images are float (N, C, H, W) in [0, 1]; what leaves the frame is filled with black.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from bench.errors import UsageError


class Augmentation(ABC):
    """One random change of an image."""

    @abstractmethod
    def draw(self, n: int, generator: Generator) -> Tensor:
        """The random numbers of n images, (n, ...)."""

    @abstractmethod
    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """The changed images."""


class Flip(Augmentation):
    """Mirrors half of the images left to right."""

    def draw(self, n, generator):
        return torch.rand(n, generator=generator) < 0.5

    def apply(self, images, drawn):
        return torch.where(drawn[:, None, None, None], images.flip(-1), images)


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Rotates each image about its centre by an angle from U(-degrees, degrees), nearest neighbour."""

    degrees: float

    def draw(self, n, generator):
        return (torch.rand(n, generator=generator) * 2 - 1) * math.radians(self.degrees)

    def apply(self, images, drawn):
        height, width = images.shape[-2:]
        x, y = _centres(width, drawn), _centres(height, drawn)[:, None]
        cos, sin = drawn.cos()[:, None, None], drawn.sin()[:, None, None]
        grid = torch.stack([cos * x - sin * y, sin * x + cos * y], -1).to(images.dtype)
        return F.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _centres(n: int, like: Tensor) -> Tensor:
    """Coordinates of n pixels in a frame from -1 to 1."""
    return (torch.arange(n, device=like.device, dtype=like.dtype) * 2 + 1) / n - 1


def augmentation(spec: str) -> Augmentation:
    """The augmentation written as `flip` or `rotate:DEGREES`."""
    name, _, argument = spec.partition(":")
    try:
        if name == "flip" and not argument:
            return Flip()
        if name == "rotate":
            return Rotate(float(argument))
    except ValueError:
        pass
    raise UsageError(f"augment: {spec!r} is not allowed; allowed: flip, rotate:DEGREES")
