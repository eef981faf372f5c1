"""Receptive fields of units that see a small grey image: what excites them most, and their response to noise.

Pixels are in units of their standard deviation over the training set; 0 is a blank grey. Records store a field as
integers, in thousandths of its largest absolute pixel; a field that is zero everywhere stays zero.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

STEPS = 20
SAMPLES = 16
"""Noise images around the image at each step."""
PAIRS = 8192
"""Noise images for the linear response, each paired with its negative."""
CHUNK = 512
SEED = 0
SCALE = 1000

Units = Callable[[Tensor], Tensor]
"""Maps images (N, 1, size, size), float64, to the responses (N, units) before any rectification."""


def by_ascent(units: Units, count: int, size: int) -> Tensor:
    """The images (count, size, size) found by gradient ascent from a blank image, one for each of `count` units.

    x <- x + g / (STEPS |g|), with g = d E[f(x + n)] / d x over Gaussian white noise n of one standard deviation, and
    |g| its root mean square over the pixels: `STEPS` steps, up to a contrast of one standard deviation (activation
    maximisation, Erhan, Bengio, Courville and Vincent 2009; for this network Lindsey, Ocko, Ganguli and Deny 2019,
    arXiv:1901.00945). A unit without a gradient has a zero field.

    f is the response before rectification, and the gradient is averaged over `SAMPLES` noise images (Smilkov et al.
    2017, arXiv:1706.03825), because a blank image may silence a rectified unit, or all units before it: the gradient is
    0 there although natural images drive the unit.
    """
    generator = Generator().manual_seed(SEED)
    own = torch.arange(count)
    images = torch.zeros(count, 1, size, size, dtype=torch.float64)
    for _ in range(STEPS):
        half = torch.randn(SAMPLES // 2, 1, size, size, dtype=torch.float64, generator=generator)
        noise = torch.cat([half, -half])
        images.requires_grad_()
        seen = (images[:, None] + noise).flatten(0, 1)
        responses = units(seen).view(count, SAMPLES, -1)[own, :, own]
        (gradient,) = torch.autograd.grad(responses.sum(), images)
        norm = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
        images = images.detach() + gradient / norm.clamp(min=torch.finfo(norm.dtype).tiny) / STEPS
    return images.squeeze(1)


@torch.no_grad()
def by_noise(units: Units, count: int, size: int) -> Tensor:
    """The linear response (count, size, size) of each unit to Gaussian white noise of one standard deviation.

    E[x f(x)], as in reverse correlation (Chichilnisky 2001, A simple white noise analysis of neuronal light responses),
    over pairs x and -x, in which the even part of f cancels.
    """
    generator = Generator().manual_seed(SEED)
    total = torch.zeros(count, size * size, dtype=torch.float64)
    for _ in range(PAIRS // CHUNK):
        noise = torch.randn(CHUNK, 1, size, size, dtype=torch.float64, generator=generator)
        total += (units(noise) - units(-noise)).T @ noise.flatten(1)
    return (total / (2 * PAIRS)).view(count, size, size)


def rounded(fields: Tensor) -> list[list[int]]:
    """Each field (size, size) row by row, in thousandths of its largest absolute pixel."""
    flat = fields.flatten(1)
    peak = flat.abs().amax(1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
    return (SCALE * flat / peak).round().int().tolist()
