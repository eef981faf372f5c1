"""`bench verify`: does every record count, is its data the right one, and are all runs there?"""

from collections.abc import Iterator
from pathlib import Path

import typer

from bench.errors import UsageError, one_line
from bench.experiments import experiment, names
from bench.provenance import differs, source
from bench.records import InvalidRecord, Store, read


def verify(results: Path, golden: bool) -> int:
    """Prints what is wrong with the records of all scales, a line each."""
    found = sorted(results.glob("*/records"))
    stores = [Store(path.parent) for path in found if path.is_dir()]
    if not stores:
        raise UsageError(f"--results {results}: no records there; allowed: a folder with SCALE/records")
    problems = [f"invalid   {path}: is no folder" for path in found if not path.is_dir()]
    for store in stores:
        lacking, notes = _runs(store)
        problems += [*_invalid(store), *lacking]
        for note in notes:
            typer.echo(note)
    if golden:
        from bench.golden import check

        problems += [f"golden    {problem}" for problem in check()]
    for problem in problems:
        typer.echo(one_line(problem))
    records = sum(1 for store in stores for _ in store.paths())
    typer.echo(f"records: {records}, problems: {len(problems) or 'none'}")
    return int(bool(problems))


def _invalid(store: Store) -> Iterator[str]:
    """Records that do not count, and those of other data than was declared or than others of their dataset."""
    first: dict[tuple[str, int], tuple[Path, dict[str, str]]] = {}
    for path in store.paths():
        try:
            record = read(path)
        except InvalidRecord as error:
            yield f"invalid   {path}: {error}"
            continue
        if "data" not in record:
            continue
        found = record["data"]["sha256"]
        name, seed = source(record)
        other, agreed = first.setdefault((name, seed), (path, found))
        if found != agreed:
            yield f"data      {path}: {name} has another sha256 than in {other}"
        elif differs(record):
            yield f"data      {path}: {name} has another sha256 than the dataset"


def _runs(store: Store) -> tuple[list[str], list[str]]:
    """Runs that have no record or failed, of the experiments recorded here; and notes: records of no run."""
    lacking, notes = [], []
    scale = store.folder.name
    for folder in sorted(store.folder.glob("records/*")):
        name = folder.name
        if name == "run" or name.startswith("tune-"):
            continue
        planned = set()
        if name in names() and scale in (found := experiment(name)).scales:
            runs = found.recorded(scale, store)
            planned = {config.slug for config, _ in runs}
            lacking += [
                f"missing   {store.path(name, config)}"
                for config, record in runs
                if record is None or record["status"] == "failed"
            ]
        notes += [f"extra     {path}" for path in store.paths(name) if path.stem not in planned]
    return lacking, notes
