"""Datasets of images in files: decoded once, then mapped from the cache."""

from abc import abstractmethod
from pathlib import Path

from bench.data import _cache
from bench.data.base import Data, Dataset, Split, check_file
from bench.errors import UsageError


class ImageFiles(Dataset):
    """RGB images of 32 x 32 pixels in files of a data folder.

    sha256: the checksums that identify the data; they are written to records.
    """

    in_files = True
    sha256: dict[str, str]

    @abstractmethod
    def sources(self, folder: Path) -> list[Path]:
        """The files in `folder` that the images are read from; empty if the dataset is not there."""

    @abstractmethod
    def decode(self, folder: Path) -> tuple[Split, Split]:
        """The training and the test split from the sources, verified. Raises `UsageError` naming the problem."""

    def present(self, folder: Path) -> bool:
        return bool(self.sources(folder))

    def unchanged(self, folder: Path) -> bool:
        return _cache.holds(self.name, self.sha256, _cache.states(self.sources(folder)))

    def read(self, folder: Path) -> Data:
        states = _cache.states(self.sources(folder))
        splits = _cache.read(self.name, self.sha256, states)
        if splits is None:
            splits = self.decode(folder)
            _cache.write(self.name, self.sha256, states, splits)
        return Data(self.name, *splits, self.outputs, self.sha256)

    def check(self, folder: Path) -> None:
        states = _cache.states(self.sources(folder))
        kept, splits = _cache.read(self.name, self.sha256, states), self.decode(folder)
        if kept is not None and all(map(Split.equals, kept, splits)):
            return
        _cache.write(self.name, self.sha256, states, splits)
        if kept is not None:
            raise UsageError(f"{_cache.file(self.name)} was altered and is rebuilt; runs that used it are in doubt")


class ParquetImages(ImageFiles):
    """`NAME/train.parquet` and `NAME/test.parquet` below a data folder, with known SHA-256, in the order of their rows.

    sha256: hex digest by file name.
    """

    def sources(self, folder: Path) -> list[Path]:
        paths = [folder / self.name / file for file in ("train.parquet", "test.parquet")]
        return paths if all(path.is_file() for path in paths) else []

    def decode(self, folder: Path) -> tuple[Split, Split]:
        from bench.data._parquet import read_split

        paths = self.sources(folder)
        for path in paths:
            check_file(path, self.sha256[path.name])
        train, test = (read_split([path], self.outputs) for path in paths)
        return train, test
