"""The datasets by name: `load`, and where their files are looked for."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import UsageError
from bench.registry import Registry

if TYPE_CHECKING:
    from bench.data.base import Data, Dataset

DATASETS: "Registry[Dataset]" = Registry("dataset", "bench.data")


class Status(NamedTuple):
    """A row of `bench data`: `where` is the data folder, 'built in' or None; `verified` is None without files."""

    name: str
    where: str | None
    verified: bool | None
    outputs: int
    train: int
    test: int
    how_to_get: str


def load(name: str, seed: int = 0) -> "Data":
    """The dataset called `name`, its files verified.

    A suffix takes a part: 'cifar100:50' is the first 50 classes, 'linear-teacher:8' the teacher of rank 8. `seed`
    matters to the linear teacher only. Raises `UsageError` for a bad name or suffix, and for missing or altered files.
    """
    dataset, part = _parse(resolve(name))
    folder = _folder(dataset)
    return dataset.read(folder) if part is None else dataset.read_part(folder, part, seed)


def resolve(names: str | Sequence[str]) -> str:
    """The first of `names` (one, or alternatives in order of preference) that is here. Raises `UsageError` if none."""
    names = [names] if isinstance(names, str) else names
    datasets = {name: _parse(name)[0] for name in names}
    for name, dataset in datasets.items():
        if _folder(dataset):
            return name
    ways = "; ".join(f"{name}: {dataset.how_to_get}" for name, dataset in datasets.items())
    looked = ", ".join(map(str, folders()))
    raise UsageError(f"no files of {' or '.join(names)} in {looked} (data folders come from BENCH_DATA); {ways}")


def is_drawn(name: str) -> bool:
    """Whether the dataset called `name` is drawn at random, from a seed."""
    return _parse(name)[0].drawn


def folders() -> list[Path]:
    """The data folders: those of the environment variable BENCH_DATA (separated as in PATH), else 'data'."""
    return [Path(folder) for folder in os.environ.get("BENCH_DATA", "").split(os.pathsep) if folder] or [Path("data")]


def status() -> list[Status]:
    """What is here of every dataset, the checksums of its files computed."""
    return [_status(dataset) for dataset in DATASETS.all().values()]


def _status(dataset: "Dataset") -> Status:
    folder, where, verified = _folder(dataset), "built in", None
    if dataset.files:
        where = str(folder) if folder else None
    if dataset.files and folder:
        try:
            dataset.verify(folder)
            verified = True
        except UsageError:
            verified = False
    return Status(dataset.name, where, verified, dataset.outputs, *dataset.sizes, dataset.how_to_get)


def _folder(dataset: "Dataset") -> Path | None:
    return next((folder for folder in folders() if dataset.present(folder)), None)


def _parse(name: str) -> "tuple[Dataset, int | None]":
    base, colon, part = name.partition(":")
    if colon and not part.isdecimal():
        raise UsageError(f"dataset {name!r}: after the colon comes a whole number from 1, not {part!r}")
    return DATASETS.get(base), int(part) if colon else None
