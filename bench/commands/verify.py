"""`bench verify`: checks that every record counts, that its data match, and that no run is missing."""

from collections.abc import Iterator
from pathlib import Path

import typer

from bench.config import Config
from bench.errors import UsageError, one_line
from bench.records.index import Index, is_missing
from bench.records.provenance import differs, name_and_seed
from bench.records.store import Store, read_all
from bench.sweeps.experiments import Experiment, experiment, is_experiment, names
from bench.sweeps.missing import is_final
from bench.sweeps.protocols import searches
from bench.sweeps.tune import choice, finder, trials, where_tuned


def verify(results: Path, golden: bool) -> int:
    """Prints what is wrong with the records of all scales, one problem per line."""
    found = sorted(results.glob("*/records"))
    stores = [Store(path.parent) for path in found if path.is_dir()]
    if not stores:
        raise UsageError(f"--results {results}: no records found; expected: a folder with SCALE/records")
    problems = [f"invalid   {path}: is not a folder" for path in found if not path.is_dir()]
    for store in stores:
        index = Index()
        problems += _invalid(store, index)
        problems += _untrue_choices(store)
        lacking, notes = _runs(store, index)
        problems += lacking
        for note in notes:
            typer.echo(note)
    if golden:
        from bench.records.golden.trajectories import check

        problems += [f"golden    {problem}" for problem in check()]
    for problem in problems:
        typer.echo(one_line(problem))
    records = sum(1 for store in stores for _ in store.paths())
    typer.echo(f"records: {records}, problems: {len(problems) or 'none'}")
    return int(bool(problems))


def _invalid(store: Store, index: Index) -> Iterator[str]:
    """Records that do not count, and those whose data differ from the declared data or from others of their dataset.

    Each file is read once; valid records are added to `index`.
    """
    first: dict[tuple[str, int], tuple[Path, dict[str, str]]] = {}
    for path, record in read_all(store.paths(), index.refused):
        index.add(path, record)
        if (record["scale"], record["experiment"]) != (store.folder.name, path.parent.name):
            yield f"misplaced {path}: belongs to experiment {record['experiment']} at scale {record['scale']}"
        if "data" not in record:
            continue
        found = record["data"]["sha256"]
        name, seed = name_and_seed(record)
        other, agreed = first.setdefault((name, seed), (path, found))
        if found != agreed:
            yield f"data      {path}: {name} has a different sha256 than in {other}"
        elif differs(record):
            yield f"data      {path}: {name} has a different sha256 than the dataset"
    for path, reason in index.refused.items():
        yield f"invalid   {path}: {reason}"


def _untrue_choices(store: Store) -> Iterator[str]:
    """Tuned settings that are not those that their recorded trials choose; trials without a record."""
    scale, results = store.folder.name, store.folder.parent
    for path in sorted(store.folder.glob("tuned/*.json")):
        try:
            kept = searches(path.stem, scale, results)
            for rule, choice_kept in kept.items():
                find = finder(path.stem, store)
                dataset = where_tuned(path.stem, scale, rule, find)
                known = trials(path.stem, scale, rule, find, dataset)
                if lacking := sum(not is_final(find(config)) for of_round in known for config in of_round):
                    yield f"tuned     {path}: {rule}: {lacking} trials have no record"
                elif choice(path.stem, scale, rule, find, dataset).chosen != choice_kept.chosen:
                    yield f"tuned     {path}: {rule}: is not what its trials choose"
        except UsageError as error:
            yield f"tuned     {error}"


def _runs(store: Store, index: Index) -> tuple[list[str], list[str]]:
    """Runs of the recorded experiments without a record or that failed; and notes: records that belong to no run.

    Runs that no claim reads may be missing if claims read others: a note counts them. An experiment whose runs cannot
    be determined, for example because its network is not installed, is a line in the first list.
    """
    lacking, notes = [], []
    scale = store.folder.name
    for folder in sorted(store.folder.glob("records/*")):
        name = folder.name
        if not is_experiment(name):
            continue
        try:
            found = experiment(name) if name in names() else None
            runs = needed = []
            if found is not None and scale in found.scales:
                runs = needed = _plan(found, store, index)
                if found.scales[scale].claims:
                    needed = _plan(found, store, index, needed=True)
        except UsageError as error:
            lacking.append(f"plan      {name}: {error}")
            continue
        due = _missing(needed)
        lacking += [f"missing   {store.path(name, config)}" for config in due]
        if others := len(_missing(runs)) - len(due):
            notes.append(f"open      {folder}: {others} of {len(runs)} runs have no record; no claim reads them")
        slugs = {config.slug for config, _ in runs}
        notes += [f"extra     {path}" for path in store.paths(name) if path.stem not in slugs]
    return lacking, notes


def _plan(found: Experiment, store: Store, index: Index, *, needed: bool = False) -> list[tuple[Config, str | None]]:
    """The runs of an experiment and how they ended, on the alternative dataset that `Experiment.recorded` chooses."""
    experiments = [found.name, *found.reuses]
    plans = found.plans(store.folder.name, store.folder.parent, needed=needed)
    runs = ([(config, index.status(config, experiments)) for config in configs] for configs in plans)
    return max(runs, key=lambda ended: sum(status is not None for _, status in ended))


def _missing(runs: list[tuple[Config, str | None]]) -> list[Config]:
    return [config for config, status in runs if is_missing(status)]
