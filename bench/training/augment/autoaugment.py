"""AutoAugment with the policy found on CIFAR-10 (Cubuk et al. 2018, arXiv:1805.09501).

The policy and the magnitude ranges are torchvision's. A change takes images (N, C, H, W) and magnitudes m (N,) between
-1 and 1; the sign is drawn at random and is ignored by changes that have only one direction.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision import transforms
from torchvision.transforms.v2 import functional as tv

from bench.training.augment.base import Augmentation
from bench.training.augment.geometry import Rotate

Change = Callable[[Tensor, Tensor], Tensor]


class AutoAugment(Augmentation):
    """Two changes per image, one of 25 pairs; each change has its own probability and magnitude."""

    def __init__(self) -> None:
        pairs = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10).policies
        names = list(CHANGES)
        self.policy = torch.tensor([[(names.index(name), p, (m or 0) / 9) for name, p, m in pair] for pair in pairs])

    def draw(self, n: int, generator: Generator) -> Tensor:
        """Columns: the pair; whether the first change is applied, and its sign; the same for the second."""
        return torch.rand(n, 5, generator=generator)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        self.policy = self.policy.to(drawn.device)  # copied only for the first batch
        pairs = self.policy[(drawn[:, 0] * len(self.policy)).long()]
        for change, made, sign in ((pairs[:, 0], drawn[:, 1], drawn[:, 2]), (pairs[:, 1], drawn[:, 3], drawn[:, 4])):
            which, probability, magnitude = change.unbind(1)
            magnitude = torch.where(sign < 0.5, -magnitude, magnitude)
            magnitude = magnitude.to(images.dtype)
            chosen = [(which == index) & (made < probability) for index in range(len(CHANGES))]
            images = (_all_changed if images.is_cuda else _some_changed)(images, magnitude, chosen)
        return images


def _some_changed(images: Tensor, magnitude: Tensor, chosen: Sequence[Tensor]) -> Tensor:
    """Applies each change only to the images (N,) that it is chosen for."""
    images = images.clone()
    for rows, make in zip(chosen, CHANGES.values(), strict=True):
        if len(rows := rows.nonzero()[:, 0]):
            images[rows] = make(images[rows], magnitude[rows])
    return images


def _all_changed(images: Tensor, magnitude: Tensor, chosen: Sequence[Tensor]) -> Tensor:
    """Applies every change to every image and selects; a GPU does this faster than it finds the chosen rows."""
    for rows, make in zip(chosen, CHANGES.values(), strict=True):
        images = torch.where(rows[:, None, None, None], make(images, magnitude), images)
    return images


def _rotate(x: Tensor, m: Tensor) -> Tensor:
    return Rotate(30).apply(x, m * math.radians(30))


def _shear_y(x: Tensor, m: Tensor) -> Tensor:
    """Keeps the left edge in place."""
    return _warp(x, [[1, 0, 0], [0.3 * m, 1, 0.3 * m]])


def _translate_x(x: Tensor, m: Tensor) -> Tensor:
    return _warp(x, [[1, 0, _shift(m, x.shape[3])], [0, 1, 0]])


def _translate_y(x: Tensor, m: Tensor) -> Tensor:
    return _warp(x, [[1, 0, 0], [0, 1, _shift(m, x.shape[2])]])


def _shift(m: Tensor, side: int) -> Tensor:
    """Shifts by a whole number of pixels, in a frame from -1 to 1."""
    return -(m * side * 150 / 331).trunc() * 2 / side


def _warp(x: Tensor, matrix: list[list[float | Tensor]]) -> Tensor:
    """The images at the points given by a 2 x 3 matrix times each pixel's (horizontal, vertical, 1), nearest pixel."""
    theta = torch.stack([torch.stack([x.new_zeros(len(x)) + entry for entry in row], 1) for row in matrix], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _blend(adjust: Callable[[Tensor, float], Tensor]) -> Change:
    """Moves away from an image that lacks a property, or towards it, by a factor of 1 + 0.9 m."""

    def change(x: Tensor, m: Tensor) -> Tensor:
        without = adjust(x, 0.0)
        return (without + (1 + 0.9 * m[:, None, None, None]) * (x - without)).clamp(0, 1)

    return change


def _smooth(x: Tensor, factor: float) -> Tensor:
    """`tv.adjust_sharpness` at factor 0, without copying its kernel to the GPU for each batch."""
    kernel = x.new_full((x.shape[1], 1, 3, 3), 1 / 13)
    kernel[:, :, 1, 1].fill_(5 / 13)
    smooth, blurred = x.clone(), F.conv2d(x, kernel, padding=1, groups=x.shape[1])
    inner = smooth[..., 1:-1, 1:-1]
    inner += blurred[..., 1:-1, 1:-1] - inner
    return smooth.clamp_(0, 1)


def _posterize(x: Tensor, m: Tensor) -> Tensor:
    """Clears the lowest round(4 |m|) of 8 bits."""
    step = (4 * m.abs()).round().exp2()[:, None, None, None]
    return (_levels(x) / step).floor() * step / 255


def _solarize(x: Tensor, m: Tensor) -> Tensor:
    """Inverts pixels of level 255 (1 - |m|) and above."""
    return torch.where(_levels(x) >= 255 * (1 - m.abs())[:, None, None, None], 1 - x, x)


def _levels(x: Tensor) -> Tensor:
    return (255 * x).round()


CHANGES: dict[str, Change] = {
    "AutoContrast": lambda x, m: tv.autocontrast(x),
    "Brightness": _blend(tv.adjust_brightness),
    "Color": _blend(tv.adjust_saturation),
    "Contrast": _blend(tv.adjust_contrast),
    "Equalize": lambda x, m: tv.equalize(x),
    "Invert": lambda x, m: 1 - x,
    "Posterize": _posterize,
    "Rotate": _rotate,
    "Sharpness": _blend(_smooth),
    "ShearY": _shear_y,
    "Solarize": _solarize,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
}
"""The policy's changes, by their names in torchvision."""
