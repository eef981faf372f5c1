"""The interface of a dataset: tensors in two splits, and where they come from."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data import Part
from bench.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HOLDOUT_SEED = 0


@dataclass(frozen=True, eq=False)
class Split:
    """Examples of one split.

    inputs: images, uint8 (N, C, H, W), or features, float (N, features).
    targets: labels, int64 (N,), or in regression outputs, float (N, outputs).
    """

    inputs: "Tensor"
    targets: "Tensor"

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: "Tensor") -> "Split":
        """The examples selected by `rows`, indices or a mask."""
        return Split(self.inputs[rows], self.targets[rows])

    def to(self, device: "torch.device | str") -> "Split":
        return Split(self.inputs.to(device), self.targets.to(device))

    def equals(self, other: "Split") -> bool:
        """Whether both have identical examples, to the bit."""
        return self.inputs.equal(other.inputs) and self.targets.equal(other.targets)


@dataclass(frozen=True, eq=False)
class Data:
    """A loaded dataset.

    name: with its suffix, such as 'cifar10', 'tiny-imagenet-32:10@3' or 'linear-teacher:8'.
    outputs: number of classes, or the output dimension in regression.
    sha256: hex digest of the content of each split, by 'train' and 'test'; for a dataset identified by the bytes of
    its files, the digest of each file, by its name.
    """

    name: str
    train: Split
    test: Split
    outputs: int
    sha256: dict[str, str]

    @property
    def regression(self) -> bool:
        return self.train.targets.is_floating_point()

    @property
    def on_gpu(self) -> bool:
        return self.train.targets.is_cuda

    @cached_property
    def channel_statistics(self) -> "tuple[Tensor, Tensor]":
        """Mean and standard deviation of the training images on the scale [0, 1], float64 (1, C, 1, 1)."""
        import torch

        images = self.train.inputs
        values = torch.arange(256, dtype=torch.float64, device=images.device) / 255
        counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.transpose(0, 1)]).double()
        weights = counts / counts.sum(1, keepdim=True)
        mean = weights @ values
        variance = weights @ values.square() - mean.square()
        return mean.view(1, -1, 1, 1), variance.sqrt().view(1, -1, 1, 1)

    def holdout(self) -> "Data":
        """For choosing hyperparameters: 90% of the training split as `train`, the other 10% as `test`.

        The cut is the same on every call; the test split is left out. Raises `UsageError` in regression, where the
        training points represent the samples only as a whole.
        """
        import torch

        if self.regression:
            raise UsageError(f"dataset {self.name!r} has no validation split: its training points cannot be divided")
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(HOLDOUT_SEED))
        order = order.to(self.train.targets.device)
        judged = len(order) // 10
        return replace(self, train=self.train.take(order[judged:]), test=self.train.take(order[:judged]))

    def classes(self, part: Part) -> "Data":
        """Both splits restricted to a group of consecutive classes, relabelled from 0; the other data are dropped.

        Group g of size d holds the labels g d to g d + d - 1. Raises `UsageError` if there are too few classes.
        """
        name = f"{self.name}:{part}"
        first = part.group * part.size
        if part.size > self.outputs:
            raise UsageError(f"dataset {name!r}: expected: 1 to {self.outputs} classes")
        if first + part.size > self.outputs:
            last = self.outputs // part.size - 1
            raise UsageError(f"dataset {name!r}: the last group of {part.size} of its {self.outputs} classes is {last}")

        def cut(split: Split) -> Split:
            taken = split.take((first <= split.targets) & (split.targets < first + part.size))
            return replace(taken, targets=taken.targets - first)

        return replace(self, name=name, train=cut(self.train), test=cut(self.test), outputs=part.size)

    def to(self, device: "torch.device | str") -> "Data":
        import torch

        if self.train.inputs.device == torch.device(device):
            return self
        return replace(self, train=self.train.to(device), test=self.test.to(device))


class Dataset(ABC):
    """Where the data of one name come from: one subclass per module, with an instance called `DATASET`.

    name: that of the module, with hyphens. note: what it is, and its licence. how_to_get: one line for users who do not
    have it. outputs: number of classes or output dimension. sizes: examples in the training and the test split.
    balanced: whether all classes have the same number of examples within each split. in_files: whether it is read from
    files in a data folder; otherwise the program generates it. drawn: whether it is drawn at random from a seed.
    made_with: the distributions that, with the dataset's module, determine the generated data; if they are named, its
    checksums are kept on disk.
    """

    name: str
    note: str
    how_to_get: str
    outputs: int
    sizes: tuple[int, int]
    balanced: bool = False
    in_files: bool = False
    drawn: bool = False
    made_with: tuple[str, ...] = ()

    def present(self, folder: Path) -> bool:
        """Whether `folder` has the files, whatever they contain."""
        return True

    def unchanged(self, folder: Path) -> bool:
        """Whether the files are known to be intact: verified once, with the same size and modification time since."""
        return False

    def check(self, folder: Path) -> None:
        """Verifies the files, even if they are known to be intact. Raises `UsageError` naming the problem."""
        self.read(folder)

    @abstractmethod
    def read(self, folder: Path) -> Data:
        """The whole dataset, verified, from a folder where it is `present`."""

    def read_part(self, folder: Path, part: Part, seed: int) -> Data:
        """The part that a suffix selects: a group of classes. Only data drawn at random may redefine this."""
        return self.read(folder).classes(part)

    def download(self, folder: Path) -> None:
        """Downloads the files into `folder`. Raises `UsageError` if that fails or is not possible."""
        raise UsageError(f"dataset {self.name!r} cannot be downloaded; {self.how_to_get}")


def digest(*tensors: "Tensor") -> str:
    """SHA-256 of the concatenated bytes of the tensors, in hex."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.contiguous().numpy().data)
    return sha.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, sha256: str) -> None:
    """Raises `UsageError` unless the file exists and has the checksum `sha256`."""
    if not path.is_file():
        raise UsageError(f"{path} is missing")
    found = file_digest(path)
    if found != sha256:
        raise UsageError(f"{path} is truncated or altered: sha256 {found}, expected: {sha256}")
