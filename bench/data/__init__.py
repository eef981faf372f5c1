"""The datasets by name: loading, the suffixes of names, and the data folders."""

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import UsageError, shown
from bench.registry import Registry

if TYPE_CHECKING:
    from bench.data.base import Data, Dataset

DATASETS: "Registry[Dataset]" = Registry("dataset", "bench.data", "Dataset", classes=False)


class Part(NamedTuple):
    """The part that a suffix selects: `:10` the first 10 classes (or a teacher of rank 10), `:10@3` group 3.

    Groups of one size are disjoint runs of consecutive classes; group 0 is the first classes and is written without @.
    """

    size: int
    group: int = 0

    def __str__(self) -> str:
        return f"{self.size}@{self.group}" if self.group else str(self.size)


class Sizes(NamedTuple):
    """Number of classes (or output dimension) and of examples of a dataset or a part of it."""

    outputs: int
    train: int
    test: int


class Status(NamedTuple):
    """A row of `bench data`.

    where: the data folder, 'built in' or None. verified: whether its files are known to be intact, None without files.
    problem: what a check found wrong.
    """

    name: str
    where: str | None
    verified: bool | None
    problem: str | None
    outputs: int
    train: int
    test: int
    how_to_get: str


def load(name: str, seed: int = 0) -> "Data":
    """The dataset called `name`, its files verified, or unchanged since they were.

    A suffix selects a part: 'cifar100:50' is the first 50 classes, 'cifar100:10@3' classes 30 to 39, relabelled 0 to 9,
    'linear-teacher:8' the teacher of rank 8. `seed` only affects the linear teacher. Raises `UsageError` for a bad name
    or suffix, and for missing or altered files.
    """
    name, folder = _found(name)
    dataset, part = _dataset(name)
    return dataset.read(folder) if part is None else dataset.read_part(folder, part, seed)


def load_once(name: str, seed: int = 0) -> "Data":
    """Like `load`, but data are read or drawn once per process, and files once for all parts of their dataset."""
    dataset, part = _dataset(name)
    if dataset.drawn:
        return _loaded(name, seed)
    whole = _loaded(dataset.name, 0)
    return whole.classes(part) if part else whole


@cache
def _loaded(name: str, seed: int) -> "Data":
    return load(name, seed)


def parse_name(name: str) -> tuple[str, Part | None]:
    """The dataset named by `name`, and the part of it. Raises `UsageError` for an invalid suffix."""
    base, colon, suffix = name.partition(":")
    if not colon:
        return base, None
    if not (found := re.fullmatch(r"([1-9][0-9]{,9})(?:@([1-9][0-9]{,9}))?", suffix)):
        allowed = "a whole number from 1, or size@index for a later group of classes, as in 10@1"
        raise UsageError(f"dataset {shown(name)}: expected after the colon: {allowed}; found: {shown(suffix)}")
    return base, Part(*(int(number) for number in found.groups(default="0")))


def groups(base: str, classes: int, among: int | None = None) -> list[str]:
    """The names of the disjoint groups of `classes` classes of a dataset: 'digits:5', 'digits:5@1'.

    They cover the first `among` of its classes, or all; the list is empty if there are fewer than `classes`.
    """
    outputs = DATASETS.get(base).outputs
    return [f"{base}:{Part(classes, group)}" for group in range(min(among or outputs, outputs) // classes)]


def sizes(name: str) -> Sizes:
    """Sizes of the dataset called `name`, for a part in proportion to its classes; needs no files."""
    dataset, part = _dataset(name)
    train, test = dataset.sizes
    if part is None or dataset.drawn:
        return Sizes(dataset.outputs, train, test)
    return Sizes(part.size, round(train * part.size / dataset.outputs), round(test * part.size / dataset.outputs))


def resolve(names: str | Sequence[str]) -> str:
    """The first of `names` (one, or alternatives in order) that is present. Raises `UsageError` if none is."""
    return _found(names)[0]


def _found(names: str | Sequence[str]) -> tuple[str, Path]:
    """Like `resolve`, with the data folder."""
    names = [names] if isinstance(names, str) else names
    datasets = {name: _dataset(name)[0] for name in names}
    for name, dataset in datasets.items():
        if folder := _folder(dataset):
            return name, folder
    ways = "; ".join(f"{name}: {dataset.how_to_get}" for name, dataset in datasets.items())
    looked = ", ".join(map(str, folders()))
    raise UsageError(f"no files of {' or '.join(names)} in {looked} (BENCH_DATA sets the data folders); {ways}")


def is_drawn(name: str) -> bool:
    """Whether the dataset called `name` is drawn at random from a seed."""
    return _dataset(name)[0].drawn


def folders() -> list[Path]:
    """The data folders: those in the environment variable BENCH_DATA (separated as in PATH), or 'data' if it is not
    set.
    """
    return [Path(folder) for folder in os.environ.get("BENCH_DATA", "").split(os.pathsep) if folder] or [Path("data")]


def status(check: bool = False) -> list[Status]:
    """What is present of each dataset; with `check`, its files and cached images are read and verified again."""
    return [_status(dataset, check) for dataset in DATASETS.all().values()]


def _status(dataset: "Dataset", check: bool) -> Status:
    folder, verified, problem = _folder(dataset), None, None
    where = (str(folder) if folder else None) if dataset.in_files else "built in"
    if dataset.in_files and folder:
        try:
            if check:
                dataset.check(folder)
            verified = check or dataset.unchanged(folder)
        except UsageError as error:
            verified, problem = False, str(error)
    return Status(dataset.name, where, verified, problem, dataset.outputs, *dataset.sizes, dataset.how_to_get)


def _folder(dataset: "Dataset") -> Path | None:
    return next((folder for folder in folders() if dataset.present(folder)), None)


def _dataset(name: str) -> "tuple[Dataset, Part | None]":
    base, part = parse_name(name)
    return DATASETS.get(base), part
