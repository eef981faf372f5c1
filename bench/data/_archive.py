"""The official archives of CIFAR, Python version: batches of images, each a pickled dictionary."""

import codecs
import io
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.base import Split
from bench.errors import UsageError


@dataclass(frozen=True)
class Archive:
    """The names inside an official archive, which is in a data folder either extracted or packed.

    folder: the folder of the batches. train, test: the batches of each split. labels: the key of a batch's labels.
    """

    file: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str

    @property
    def url(self) -> str:
        return f"https://www.cs.toronto.edu/~kriz/{self.file}"

    def sources(self, folder: Path) -> list[Path]:
        """The batches of the extracted archive, or the packed archive; empty if `folder` has neither."""
        batches = [folder / self.folder / batch for batch in self.train + self.test]
        return [path for path in batches if path.is_file()] or [path for path in [folder / self.file] if path.is_file()]

    def read(self, folder: Path, outputs: int) -> tuple[Split, Split]:
        """The training and the test split, in the archive's order. Raises `UsageError` naming the problem."""
        import torch

        first, *_ = sources = self.sources(folder)
        if first == folder / self.file:
            place, batches = first, _members(first, [f"{self.folder}/{batch}" for batch in self.train + self.test])
        else:
            place, batches = folder / self.folder, {path.name: path.read_bytes() for path in sources}

        def split(names: tuple[str, ...]) -> Split:
            parts = [self._batch(place / name, batches.get(name), outputs) for name in names]
            pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            return Split(torch.from_numpy(pixels).view(-1, 3, 32, 32), torch.from_numpy(labels))

        return split(self.train), split(self.test)

    def _batch(self, path: Path, pickled: bytes | None, outputs: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels, uint8 (N, 3072), and labels, int64 (N,)."""
        if pickled is None:
            raise UsageError(f"{path} is missing")
        try:
            batch = _Plain(io.BytesIO(pickled), encoding="latin1").load()
            pixels, labels = np.asarray(batch["data"]), np.asarray(batch[self.labels])
        except Exception as error:  # damaged bytes can make the unpickler raise anything
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise UsageError(f"{path} is truncated or altered: {reason}") from None
        if pixels.dtype != np.uint8 or pixels.shape != (len(pixels), 3072) or labels.shape != (len(pixels),):
            raise UsageError(
                f"{path}: 'data' is {pixels.dtype} {pixels.shape} and {self.labels!r} has {labels.size}, expected: "
                "uint8 (N, 3072) and N"
            )
        for row in np.flatnonzero((labels < 0) | (labels >= outputs)):
            raise UsageError(f"{path}: row {row}: the label is {labels[row]}, expected: 0 to {outputs - 1}")
        return pixels, labels.astype(np.int64)


class _Plain(pickle.Unpickler):
    """Builds arrays, containers and numbers, and calls nothing else that a pickle names."""

    allowed = {
        "_reconstruct": np.empty(0).__reduce__()[0],
        "ndarray": np.ndarray,
        "dtype": np.dtype,
        "encode": codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] not in ("numpy", "_codecs") or name not in self.allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no batch of images uses")
        return self.allowed[name]


def _members(path: Path, names: list[str]) -> dict[str, bytes]:
    """The bytes of regular files in a tar archive, by the last part of their names. Nothing is written to disk."""
    try:
        with tarfile.open(path) as archive:
            return {
                Path(member.name).name: file.read()
                for member in archive
                if member.isreg() and member.name in names and (file := archive.extractfile(member))
            }
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UsageError(f"{path} is truncated or altered: {' '.join(str(error).split())}") from None
