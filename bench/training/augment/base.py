"""What an augmentation is."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Generator, Tensor


class Augmentation(ABC):
    """One random change of an image."""

    moves_pixels: ClassVar[bool] = False
    """Whether it gives pixels of the image, or black, so that images may be uint8, on which it takes less time."""

    @abstractmethod
    def draw(self, n: int, generator: Generator) -> Tensor:
        """The random numbers of n images, (n, ...)."""

    @abstractmethod
    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """The changed images."""
