"""`bench export`: the valid records of a results folder as a dataset."""

from pathlib import Path

import typer

from bench.commands.show import left_out
from bench.errors import UsageError
from bench.records.export import write_dataset
from bench.records.store import Store, read_all
from bench.sweeps.experiments import SINGLE
from bench.sweeps.protocols import SCALES


def export(folder: Path, results: Path) -> int:
    """Writes the dataset and prints its size; names the files that are not valid records.

    Single runs of `bench run` are left out.
    """
    refused: dict[Path, str] = {}
    records = {}
    for scale in SCALES:
        paths = (path for path in Store(results / scale).paths() if path.parent.name != SINGLE)
        if found := [record for _, record in read_all(paths, refused)]:
            records[scale] = found
    left_out(refused)
    if not records:
        raise UsageError(f"--results {results}: no valid records found; expected: a folder with SCALE/records")
    write_dataset(folder, records)
    counts = ", ".join(f"{len(found)} at scale {scale}" for scale, found in records.items())
    typer.echo(f"{folder}: {counts}")
    return 0
