"""Checksums of drawn data, kept on disk: to draw the samples of a linear teacher takes longer than to check a record.

One file of the cache. It counts for the torch and the code that drew the data, and for others as absent.
"""

import json
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from bench.data import DATASETS, load_once, parse_name
from bench.data._cache import DRAWN, folder
from bench.data.base import file_digest
from bench.errors import UsageError
from bench.files import write_atomically


def checksums(name: str, seed: int) -> dict[str, str]:
    """The checksums of the data called `name` that are drawn from `seed`."""
    dataset = DATASETS.get(parse_name(name)[0])
    made_by = f"torch {version('torch')}, {file_digest(Path(import_module(type(dataset).__module__).__file__))}"
    key = f"{name} seed {seed}"
    kept = _kept(made_by)
    if key not in kept:
        kept[key] = load_once(name, seed).sha256
        content = json.dumps({"made_by": made_by, "checksums": kept}, indent=1)
        with suppress(UsageError):  # no folder to keep it in: it is drawn again
            write_atomically(folder() / DRAWN, lambda file: file.write(content.encode()))
    return kept[key]


def _kept(made_by: str) -> dict[str, dict[str, str]]:
    try:
        content = json.loads((folder() / DRAWN).read_text())
        return content["checksums"] if content["made_by"] == made_by else {}
    except (OSError, UsageError, ValueError, KeyError, TypeError):
        return {}
