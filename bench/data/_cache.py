"""Decoded images, kept on disk for processes to map.

One file per dataset, mapped by `torch.load`: pages are read when they are used, and processes share them. The file
records which sources it was made from (path, size and modification time), which checksums it stands for, and its own
modification time. If any of these has changed, or the file is damaged, it counts as absent. Only `bench data --check`
detects a byte altered with the modification time set back.
"""

import os
import pickle
import sys
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from bench.data.base import Split
from bench.errors import CannotWrite
from bench.files import cache_folder, write_atomically

FORMAT = 1
SUFFIX = ".images"
CHECKSUMS = "checksums.json"
"""Checksums of generated data, see `bench.data._checksums`."""
States = dict[str, list[int]]
Splits = tuple[Split, Split]


def file(name: str) -> Path:
    """The file for the images of the dataset called `name`."""
    return cache_folder() / f"{name}{SUFFIX}"


def files() -> list[Path]:
    """The files in the cache, including those left by interrupted processes."""
    names = (SUFFIX, CHECKSUMS)
    return sorted(
        path for name in names for form in (f"*{name}", f".*{name}.*.tmp") for path in cache_folder().glob(form)
    )


def clear() -> None:
    """Removes the files of the cache. Processes that have mapped one keep their data."""
    for path in files():
        path.unlink(missing_ok=True)


def states(sources: Iterable[Path]) -> States:
    """Size and modification time of each source, by path."""
    found = {str(path.resolve()): path.stat() for path in sources}
    return {path: [state.st_size, state.st_mtime_ns] for path, state in found.items()}


def read(name: str, sha256: dict[str, str], sources: States | None = None) -> Splits | None:
    """The training and the test split for the checksums, made from the sources, or from any sources if None.

    They are mapped privately: writing to them never changes the file.
    """
    import torch

    try:
        kept = torch.load(file(name), mmap=True, weights_only=True)
        if _counts(kept, name, sha256, sources):
            return Split(*kept["train"]), Split(*kept["test"])
    except Exception:  # no file, or a damaged one that makes torch raise anything: the sources are decoded again
        return None
    return None


def holds(name: str, sha256: dict[str, str], sources: States) -> bool:
    """Whether `read` would return splits, determined without torch from the file's own description."""
    try:
        with zipfile.ZipFile(file(name)) as kept:
            (said,) = (member for member in kept.namelist() if member.endswith("/data.pkl"))
            return _counts(_WithoutTensors(kept.open(said)).load(), name, sha256, sources)
    except Exception:  # as in `read`
        return False


def _counts(kept: dict[str, Any], name: str, sha256: dict[str, str], sources: States | None) -> bool:
    """Whether the cached file stands for the checksums, was made from the sources and has not been modified since."""
    changed = file(name).stat().st_mtime_ns
    said = kept["format"], kept["sha256"], kept["changed"]
    return said == (FORMAT, sha256, changed) and sources in (None, kept["sources"])


class _WithoutTensors(pickle.Unpickler):
    """Unpickles a `torch.save` file, with None for each tensor."""

    def persistent_load(self, pid: object) -> None:
        return None

    def find_class(self, module: str, name: str) -> Any:
        return lambda *arguments: None


def write(name: str, sha256: dict[str, str], sources: States, splits: Splits) -> None:
    """Saves the splits, replacing the previous file. If the folder cannot be written, prints a warning."""
    train, test = ((split.inputs, split.targets) for split in splits)
    changed = int(time.time()) * 10**9  # whole seconds, which every file system preserves

    def save(file: BinaryIO) -> None:
        import torch

        content = {"format": FORMAT, "sha256": sha256, "sources": sources, "changed": changed}
        torch.save(content | {"train": train, "test": test}, file)
        file.flush()
        os.utime(file.name, ns=(changed, changed))

    try:
        write_atomically(file(name), save)
    except (CannotWrite, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        print(f"warning: {name} is decoded on every start: its cache cannot be written: {reason}", file=sys.stderr)
