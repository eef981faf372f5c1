"""Checksums of generated data, kept on disk because drawing a linear teacher takes longer than checking a record.

One file in the cache. An entry is valid for the code and libraries that made the data; with others it counts as absent.
"""

import json
from contextlib import suppress
from importlib.metadata import version
from inspect import getfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data import load_once
from bench.data._cache import CHECKSUMS
from bench.data.base import file_digest
from bench.errors import UsageError
from bench.files import cache_folder, write_text

if TYPE_CHECKING:
    from bench.data.base import Dataset


def checksums(dataset: "Dataset", name: str, seed: int) -> dict[str, str]:
    """Checksums of the data called `name` made by `dataset` from `seed`, with its code and libraries (`made_with`)."""
    code = file_digest(Path(getfile(type(dataset))))
    key = " ".join([name, f"seed={seed}", *(f"{each}={version(each)}" for each in dataset.made_with), f"code={code}"])
    kept = _kept()
    if key not in kept:
        kept[key] = load_once(name, seed).sha256
        content = json.dumps(kept, indent=1)
        with suppress(UsageError):  # no folder to keep them in: the data are made again
            write_text(cache_folder() / CHECKSUMS, content)
    return kept[key]


def _kept() -> dict[str, dict[str, str]]:
    try:
        content = json.loads((cache_folder() / CHECKSUMS).read_text())
    except (OSError, UsageError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
