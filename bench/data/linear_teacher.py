"""Regression on a random linear teacher of rank s: T = A B / sqrt(64), A ~ N(0,1)^{64 x s}, B ~ N(0,1)^{s x 128}.

A split is N = 100,000 samples X ~ N(0, I_128), Y = X T'. A linear network trained full batch on the mean squared error,
and the rules' feedback, depend only on the mean and second moments of (X, Y). Each split is therefore replaced by 129
points with the same moments: with R'R = [1 X]'[1 X] / N (Cholesky) and U orthogonal with first column 1 / sqrt(129),
the points are [1 X~] = sqrt(129) U R, whose first column is exactly 1, and Y~ = X~ T'. Any function of averages of
those moments is unchanged except for rounding; a subset of the points, or a minibatch, has no meaning.

Everything is float64. The digests are those of the teacher and of the raw samples rounded to half precision: they
follow the random stream (which may change with the torch version), not the last bits of a machine's BLAS or libm.
"""

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data import Part
from bench.data.base import Data, Dataset, Split, digest
from bench.errors import UsageError

if TYPE_CHECKING:
    from torch import Generator, Tensor

INPUTS, OUTPUTS, SAMPLES = 128, 64, 100_000


class LinearTeacher(Dataset):
    name = "linear-teacher"
    note = "Synthetic: Gaussian inputs and a random linear teacher, whose rank s is the suffix: 'linear-teacher:8'."
    how_to_get = "built in; the suffix is the teacher's rank, as in linear-teacher:8"
    outputs = OUTPUTS
    drawn = True
    made_with = ("torch",)
    sizes = (INPUTS + 1, INPUTS + 1)

    def read(self, folder: Path) -> Data:
        raise UsageError(f"dataset {self.name!r} needs the teacher's rank, 1 to {OUTPUTS}, as in 'linear-teacher:8'")

    def read_part(self, folder: Path, part: Part, seed: int) -> Data:
        if part.group:
            raise UsageError(f"dataset '{self.name}:{part}': a teacher has a rank, 1 to {OUTPUTS}, and no groups")
        generator = _generator(part.size, seed)
        target = _teacher(part.size, generator)
        splits, sha256 = {}, {}
        for split in ("train", "test"):
            samples = _samples(generator)
            inputs = pseudo_samples(samples)
            splits[split] = Split(inputs, inputs @ target.T)
            sha256[split] = digest(target.half(), samples.half())
        return Data(f"{self.name}:{part}", **splits, outputs=OUTPUTS, sha256=sha256)


DATASET = LinearTeacher()


def teacher(s: int, seed: int) -> "Tensor":
    """The teacher T (64, 128) of rank `s` of 'linear-teacher:s' for this seed, in float64."""
    return _teacher(s, _generator(s, seed))


def pseudo_samples(samples: "Tensor") -> "Tensor":
    """The (n + 1, n) points whose mean and second moments are those of `samples` (N, n), N > n, in float64."""
    import torch

    mean = samples.mean(0, keepdim=True)
    one = samples.new_ones(1, 1)
    moments = torch.cat([torch.cat([one, mean], 1), torch.cat([mean.T, samples.T @ samples / len(samples)], 1)])
    factor = torch.linalg.cholesky(moments, upper=True)
    points = len(moments)
    # The Householder reflection that swaps the first unit vector and 1 / sqrt(points).
    normal = torch.full((points, 1), -1 / math.sqrt(points), dtype=samples.dtype)
    normal[0] += 1
    rotated = factor - 2 * normal @ (normal.T @ factor) / normal.square().sum()
    return math.sqrt(points) * rotated[:, 1:]


def _generator(s: int, seed: int) -> "Generator":
    """Keyed by a digest, so that network weights drawn from the same `seed` are independent of the teacher."""
    import torch

    key = hashlib.sha256(f"linear-teacher:{s}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:4]))


def _teacher(s: int, generator: "Generator") -> "Tensor":
    import torch

    if not 1 <= s <= OUTPUTS:
        raise UsageError(f"dataset 'linear-teacher:{s}': the teacher's rank is 1 to {OUTPUTS}")
    left = torch.randn(OUTPUTS, s, generator=generator, dtype=torch.float64)
    right = torch.randn(s, INPUTS, generator=generator, dtype=torch.float64)
    return left @ right / math.sqrt(OUTPUTS)


def _samples(generator: "Generator") -> "Tensor":
    import torch

    return torch.randn(SAMPLES, INPUTS, generator=generator, dtype=torch.float64)
