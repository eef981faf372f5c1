"""`bench verify`: checks that every record counts, that its data match, and that no run is missing."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from bench.config import Config
from bench.errors import UsageError, one_line
from bench.records.index import Index, is_missing
from bench.records.provenance import differs, name_and_seed
from bench.records.store import Store, read_all
from bench.sweeps.experiments import TUNING, Experiment, experiment, is_experiment, names
from bench.sweeps.protocols import searches

Trials = defaultdict[tuple[str, str], list[dict[str, Any]]]
"""By network and rule: the configuration of each recorded trial, with its accuracy."""

WITHOUT_RECORDS = "quick"
"""The scale whose shipped settings were tuned elsewhere: this repository keeps no records of it."""


def verify(results: Path, golden: bool) -> int:
    """Prints what is wrong with the records of all scales, one problem per line."""
    found = sorted(results.glob("*/records"))
    stores = [Store(path.parent) for path in found if path.is_dir()]
    if not stores:
        raise UsageError(f"--results {results}: no records found; expected: a folder with SCALE/records")
    problems = [f"invalid   {path}: is not a folder" for path in found if not path.is_dir()]
    for store in stores:
        index = Index()
        trials: Trials = defaultdict(list)
        problems += _invalid(store, index, trials)
        problems += _untrue_choices(store, trials)
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


def _invalid(store: Store, index: Index, trials: Trials) -> Iterator[str]:
    """Records that do not count, and those whose data differ from the declared data or from others of their dataset.

    Each file is read once; valid records are added to `index`, and those of tunings to `trials`.
    """
    first: dict[tuple[str, int], tuple[Path, dict[str, str]]] = {}
    for path, record in read_all(store.paths(), index.refused):
        index.add(path, record)
        if path.parent.name.startswith(TUNING) and not is_missing(record["status"]):
            config, accuracy = record["config"], record["final"].get("accuracy", 0.0)
            trials[config["model"], config["rule"]].append(config | {"accuracy": accuracy})
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


def _untrue_choices(store: Store, trials: Trials) -> Iterator[str]:
    """Tuned settings that are not the best of their trials, and trials without a record of the same accuracy.

    Rules of which scale quick has no recorded trial are passed over: their settings are shipped, their records are not.
    """
    for path in sorted(store.folder.glob("tuned/*.json")):
        try:
            kept = searches(path.stem, store.folder.name, store.folder.parent)
        except UsageError as error:
            yield f"tuned     {error}"
            continue
        for rule, choice in kept.items():
            recorded = [_part(trial, choice.chosen) for trial in trials[path.stem, rule]]
            if not recorded and store.folder.name == WITHOUT_RECORDS:
                continue
            if lacking := sum(_part(trial, choice.chosen) not in recorded for trial in choice.trials):
                yield f"tuned     {path}: {rule}: {lacking} of its trials have no record of their accuracy"
            best = max(choice.trials, key=lambda trial: trial["accuracy"])["accuracy"]
            if _part(choice.chosen | {"accuracy": best}, choice.chosen) not in recorded and not lacking:
                yield f"tuned     {path}: {rule}: its settings are not those of the best trial"


def _part(trial: Mapping[str, Any], searched: Iterable[str]) -> dict[str, Any]:
    return {name: trial[name] for name in (*searched, "accuracy")}


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
