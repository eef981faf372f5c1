"""What CIFAR-10 and CIFAR-100 share: the official archive, or the Hugging Face hub's copy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import extract_archive

from bench.data._parquet import FILES, read_split
from bench.data.base import Data, Dataset, Split, check_file, file_digest
from bench.errors import UsageError

SUMS = "SHA256SUMS"


class Cifar(Dataset):
    """The official archive, extracted or not, in a data folder; else `NAME/*.parquet` as `download` has stored it.

    The archive is held to torchvision's MD5 sums, the hub's copy to the SHA-256 sums written when it was downloaded.
    The hub's order of the images is another, so runs on the two copies agree statistically, not step by step.

    archive: torchvision's class. hub: the hub's name. columns: the hub's column of the images and of the labels.
    """

    archive: type[CIFAR10]
    hub: str
    columns: tuple[str, str]
    note = "Krizhevsky (2009), Learning multiple layers of features from tiny images. No licence stated: research use."
    sizes = (50_000, 10_000)
    balanced = True

    @property
    def files(self) -> tuple[str, ...]:
        """Any one of them will do."""
        return self.archive.base_folder, self.archive.filename, f"{self.name}/{SUMS}"

    @property
    def how_to_get(self) -> str:
        return f"`bench data --download {self.name}`, or put {self.archive.url} in a data folder"

    def present(self, folder: Path) -> bool:
        return any((folder / file).exists() for file in self.files)

    def verify(self, folder: Path) -> None:
        if not self._official(folder):
            for file, sha256 in self._sums(folder).items():
                check_file(folder / self.name / file, sha256)
        elif (folder / self.archive.base_folder).is_dir():
            for file, md5 in self._batches().items():
                check_file(folder / self.archive.base_folder / file, md5, "md5")
        else:
            check_file(folder / self.archive.filename, self.archive.tgz_md5, "md5")

    def read(self, folder: Path) -> Data:
        self.verify(folder)
        if not self._official(folder):
            train, test = (read_split(folder / self.name / file) for file in FILES)
            return Data(self.name, train, test, self.outputs, self._sums(folder))
        with self._extracted(folder) as root:
            train, test = (self._split(root, train) for train in (True, False))
            sha256 = {file: file_digest(root / self.archive.base_folder / file) for file in self._batches()}
        return Data(self.name, train, test, self.outputs, sha256)

    def download(self, folder: Path) -> None:
        """The official archive, or where that fails the hub's copy, moved to its place when it is complete."""
        if self.present(folder):
            return self.verify(folder)
        folder.mkdir(parents=True, exist_ok=True)
        failures = []
        for source in (self._from_archive, self._from_hub):
            try:
                with TemporaryDirectory(dir=folder) as incoming:
                    return source(folder, Path(incoming))
            except Exception as error:  # whatever the network and two libraries may raise
                failures.append(f"{type(error).__name__} {error}")
        reasons = " ".join("; then from the hub: ".join(failures).split())
        raise UsageError(f"dataset {self.name!r} could not be downloaded: {reasons}")

    def _from_archive(self, folder: Path, incoming: Path) -> None:
        self.archive(incoming, download=True)
        (incoming / self.archive.base_folder).rename(folder / self.archive.base_folder)

    def _from_hub(self, folder: Path, incoming: Path) -> None:
        from datasets import load_dataset

        image, label = self.columns
        splits = load_dataset(self.hub, cache_dir=str(incoming / "cache"))
        (incoming / self.name).mkdir()
        for file, size in zip(FILES, self.sizes, strict=True):
            split = splits[Path(file).stem].select_columns([image, label])
            if len(split) != size:
                raise ValueError(f"{self.hub} has {len(split)} images for {file}, expected {size}")
            split.rename_columns({image: "image", label: "label"}).to_parquet(incoming / self.name / file)
        sums = (f"{file_digest(incoming / self.name / file)}  {file}\n" for file in FILES)
        (incoming / self.name / SUMS).write_text("".join(sums))
        (incoming / self.name).rename(folder / self.name)

    def _official(self, folder: Path) -> bool:
        return any((folder / path).exists() for path in (self.archive.base_folder, self.archive.filename))

    def _batches(self) -> dict[str, str]:
        """MD5 of the archive's files, by name."""
        batches = self.archive.train_list + self.archive.test_list
        return dict(batches) | {self.archive.meta["filename"]: self.archive.meta["md5"]}

    def _sums(self, folder: Path) -> dict[str, str]:
        """SHA-256 of the hub copy's files, by name."""
        words = (folder / self.name / SUMS).read_text().split()
        sums = dict(zip(words[1::2], words[::2], strict=False))
        if sorted(sums) != sorted(FILES):
            raise UsageError(f"{folder / self.name / SUMS} must list {' and '.join(FILES)}")
        return sums

    @contextmanager
    def _extracted(self, folder: Path) -> Iterator[Path]:
        if (folder / self.archive.base_folder).is_dir():
            yield folder
        else:
            with TemporaryDirectory() as root:
                extract_archive(str(folder / self.archive.filename), root)
                yield Path(root)

    def _split(self, root: Path, train: bool) -> Split:
        split = self.archive(root, train=train)
        images = torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous()
        return Split(images, torch.tensor(split.targets))
