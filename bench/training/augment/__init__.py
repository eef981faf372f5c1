"""Augmentations of image batches, as tensor operations on the device.

Each draws its random numbers for a whole epoch at once, on the CPU, so that runs on any device see the same ones.
Images are float (N, C, H, W) in [0, 1], or uint8 if an augmentation only moves pixels; areas outside the original image
are black.
"""

import math

from bench.errors import UsageError, shown
from bench.training.augment.base import Augmentation
from bench.training.augment.geometry import Crop, Cutout, Flip, Rotate


def augmentation(spec: str) -> Augmentation:
    """The augmentation written as `flip`, `crop:4`, ... Raises `UsageError`, listing all, for anything else."""
    name, _, argument = spec.partition(":")
    try:
        match name, argument:
            case "flip", "":
                return Flip()
            case "autoaugment", "":
                from bench.training.augment.autoaugment import AutoAugment  # torchvision takes seconds to import

                return AutoAugment()
            case "crop", _:
                return Crop(_pixels(argument))
            case "cutout", _:
                return Cutout(_pixels(argument))
            case "rotate", _:
                return Rotate(_degrees(argument))
    except ValueError:
        pass
    raise UsageError(f"augment: {shown(spec)} is not allowed; expected: {ALLOWED}")


def _pixels(text: str) -> int:
    if (pixels := int(text)) < 1:
        raise ValueError
    return pixels


def _degrees(text: str) -> float:
    if not math.isfinite(degrees := float(text)):
        raise ValueError
    return degrees


ALLOWED = "autoaugment, crop:PIXELS, cutout:SIZE, flip, rotate:DEGREES"
