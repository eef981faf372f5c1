"""Compares the data that a record was made with to its dataset."""

from functools import cache

from bench.data import DATASETS, is_drawn, load_once, resolve
from bench.data._checksums import checksums
from bench.errors import UsageError
from bench.records.store import Record


def name_and_seed(record: Record) -> tuple[str, int]:
    """Name of the dataset, and the seed if its data are drawn from one, else 0."""
    name = record["data"]["name"]
    return name, record["config"]["seed"] if is_drawn(name) else 0


def differs(record: Record) -> bool:
    """Whether the checksums of a record's data differ from `expected`; False if there is nothing to compare with."""
    return expected(*name_and_seed(record)) not in ({}, record["data"]["sha256"])


@cache
def expected(name: str, seed: int) -> dict[str, str]:
    """The checksums that the dataset declares, or those of the data here, drawn with `seed`; empty without files."""
    dataset = DATASETS.get(name.partition(":")[0])
    if hasattr(dataset, "sha256"):
        return dataset.sha256
    try:
        if dataset.made_with:
            return checksums(dataset, name, seed)
        return load_once(resolve(name), seed).sha256
    except UsageError:
        return {}
