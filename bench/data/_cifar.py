"""What CIFAR-10 and CIFAR-100 share: the same pixels in several containers."""

import hashlib
import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.data import _cache
from bench.data._archive import Archive
from bench.data._images import ImageFiles
from bench.data.base import Split
from bench.errors import UsageError

PARQUET = ("{}.parquet", "{}-*-of-*.parquet", "*/{}-*-of-*.parquet", "*/{}/*.parquet")
"""The files of a split below NAME/: one file, or shards with the hub's file names."""


class Cifar(ImageFiles):
    """The official archive, extracted or packed, in a data folder, or Parquet files in NAME/ in any lossless format.

    Whatever the container, images are in the order of their digests: SHA-256 of the label, one byte, and of the 3072
    bytes of the pixels, channel first. A seed therefore gives the same run from each container. (Images with equal
    digests have equal pixels and labels, so their order does not matter.)

    sha256: content sum of each split, SHA-256 of the concatenated sorted digests. hub, revision: the hub's name and the
    commit of its copy.
    """

    archive: Archive
    hub: str
    revision: str
    note = "Krizhevsky (2009), Learning multiple layers of features from tiny images. No licence stated: research use."
    sizes = (50_000, 10_000)
    balanced = True

    @property
    def how_to_get(self) -> str:  # type: ignore[override]  # of the archive, and never assigned
        return f"`bench data --download {self.name}`, or put {self.archive.url} in a data folder"

    def sources(self, folder: Path) -> list[Path]:
        train, test = self._parquet(folder)
        return self.archive.sources(folder) or (train + test if train and test else [])

    def decode(self, folder: Path) -> tuple[Split, Split]:
        if self.archive.sources(folder):
            splits = list(self.archive.read(folder, self.outputs))
        else:
            from bench.data._parquet import read_split

            splits = [read_split(paths, self.outputs) for paths in self._parquet(folder)]
        place = Path(os.path.commonpath(self.sources(folder)))
        train, test = map(self._in_order, ("train", "test"), splits, self.sizes, [place, place])
        return train, test

    def download(self, folder: Path) -> None:
        """Fetches the official archive or, if that fails, the hub's copy; keeps it if its content sums match."""
        if self.present(folder):
            self.read(folder)
            return
        folder.mkdir(parents=True, exist_ok=True)
        failures = []
        for fetch in (self._from_archive, self._from_hub):
            try:
                with TemporaryDirectory(dir=folder) as incoming:
                    fetched = fetch(Path(incoming))
                    self.decode(Path(incoming))
                    fetched.rename(folder / fetched.name)
                    return
            except Exception as error:  # the network and two libraries may raise anything
                failures.append(f"{type(error).__name__} {error}")
        reasons = " ".join("; then from the hub: ".join(failures).split())
        raise UsageError(f"dataset {self.name!r} could not be downloaded: {reasons}")

    def _from_archive(self, incoming: Path) -> Path:
        from torchvision.datasets.utils import download_url

        download_url(self.archive.url, incoming)
        return incoming / self.archive.file

    def _from_hub(self, incoming: Path) -> Path:
        from datasets import load_dataset

        copy = load_dataset(self.hub, revision=self.revision, cache_dir=str(incoming / "cache"))
        for kind, split in copy.items():
            (incoming / self.name).mkdir(exist_ok=True)
            split.to_parquet(incoming / self.name / f"{kind}.parquet")
        return incoming / self.name

    def _parquet(self, folder: Path) -> list[list[Path]]:
        """The Parquet files of the training and of the test split."""
        return [
            sorted(path for pattern in PARQUET for path in (folder / self.name).glob(pattern.format(kind)))
            for kind in ("train", "test")
        ]

    def _in_order(self, kind: str, split: Split, size: int, place: Path) -> Split:
        """The images in the order of their digests. Raises `UsageError` unless they are those of the dataset."""
        import torch

        if len(split) != size:
            raise UsageError(f"{place}: {len(split):,} images in the split {kind!r}, expected: {size:,}")
        found = digests(split)
        order = sorted(range(size), key=found.__getitem__)
        total = hashlib.sha256(b"".join(found[row] for row in order)).hexdigest()
        if total != self.sha256[kind]:
            raise UsageError(
                f"{place}: {self._wrong(kind, found)} of {size:,} images in the split {kind!r} are not of {self.name}; "
                f"content sum {total}, expected: {self.sha256[kind]}"
            )
        return split.take(torch.tensor(order))

    def _wrong(self, kind: str, found: list[bytes]) -> str:
        """How many images differ from the cached ones; 'some' if there are no cached ones."""
        kept = _cache.read(self.name, self.sha256)
        if kept is None:
            return "some"
        right = Counter(digests(kept[("train", "test").index(kind)]))
        return f"{(Counter(found) - right).total():,}"


def digests(split: Split) -> list[bytes]:
    """SHA-256 of each image's label, one byte, and pixels; the images are uint8 (N, C, H, W)."""
    import torch

    rows = torch.cat([split.targets.to(torch.uint8)[:, None], split.inputs.flatten(1)], 1).numpy()
    return [hashlib.sha256(row).digest() for row in rows]
