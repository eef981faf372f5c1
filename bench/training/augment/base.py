"""The interface of an augmentation."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Generator, Tensor


class Augmentation(ABC):
    """A random change to an image."""

    moves_pixels: ClassVar[bool] = False
    """Whether the result consists of pixels of the image or black, so that images may be uint8, which is faster."""

    @abstractmethod
    def draw(self, n: int, generator: Generator) -> Tensor:
        """Random numbers for n images, (n, ...)."""

    @abstractmethod
    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """The changed images."""
