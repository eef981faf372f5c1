"""Checks what a results folder needs for its runs to join those of the benchmark."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from bench.config import Config
from bench.errors import UsageError
from bench.records.index import Index
from bench.records.provenance import differs
from bench.records.runs import Runs
from bench.records.source import is_uncommitted
from bench.records.store import Record, Store
from bench.stats import MIN_SEEDS
from bench.sweeps.experiments import Experiment, alternative, experiment, is_experiment, names
from bench.sweeps.missing import is_final
from bench.sweeps.protocols import COMMITTED, SCALES, SEARCHED, departures, protocol, searches
from bench.sweeps.tune import choice, finder, trials, where_tuned


class Setting(NamedTuple):
    """A setting of an experiment, with its runs."""

    experiment: str
    scale: str
    runs: Runs


def check(folder: Path) -> tuple[list[Setting], list[str]]:
    """The recorded settings of a results folder, and the problems that keep them out of the standard table.

    Raises `UsageError` if it contains no experiment.
    """
    settings: list[Setting] = []
    problems: list[str] = []
    for scale in SCALES:
        store = Store(folder / scale)
        present = sorted(path.name for path in store.folder.glob("records/*") if path.is_dir())
        problems += [f"{path}: {reason}" for path, reason in Index.of(store, present).refused.items()]
        for name in present:
            if not is_experiment(name):
                continue
            where = f"{name} at scale {scale}"
            if name not in names():
                problems.append(f"{where}: no such experiment; expected: {name}.yaml in a folder of BENCH_EXPERIMENTS")
                continue
            found = experiment(name)
            if scale not in found.scales:
                problems.append(f"{where}: {name}.yaml has no such scale; expected: {', '.join(found.scales)}")
                continue
            of_experiment = list(_settings(found, scale, store))
            settings += [setting for setting, _ in of_experiment if setting.runs.records]
            problems += [f"{where}, {problem}" for problem in _problems(of_experiment, store)]
    if not settings and not problems:
        raise UsageError(f"{folder}: no experiment is recorded there; expected: the --results of a `bench sweep`")
    return settings, problems


def _settings(found: Experiment, scale: str, store: Store) -> Iterator[tuple[Setting, int]]:
    """The settings of an experiment on the standard data, recorded or not, with the number of planned runs."""
    configs = found.configs(scale, alternative(0), store.folder.parent)
    for setting, group in groupby(configs, key=lambda config: replace(config, seed=0)):
        runs = list({config.digest: config for config in group}.values())
        records = {run.seed: store.find(run, [found.name, *found.reuses]) for run in runs}
        yield Setting(found.name, scale, Runs(setting, {s: r for s, r in records.items() if is_final(r)})), len(runs)


def _problems(settings: Sequence[tuple[Setting, int]], store: Store) -> Iterator[str]:
    for (_, scale, runs), planned in settings:
        label = runs.config.setting
        if missing := planned - len(runs.records):
            yield f"{label}: {missing} of {planned} runs have no record"
        if planned < MIN_SEEDS:
            yield f"{label}: {planned} seeds; expected: {MIN_SEEDS} or more"
        if problem := _untuned(runs.config, scale, store):
            yield f"{label}: {problem}"
        if changed := sorted(filter(is_uncommitted, runs.sources)):
            yield f"{label}: trained by code that differs from its commit ({', '.join(changed)})"
    datasets = {setting.runs.config.dataset for setting, _ in settings}
    for dataset in sorted(datasets - {s.runs.config.dataset for s, _ in settings if s.runs.config.rule == "bp"}):
        yield f"{dataset}: the experiment has no run of bp on it to compare with"
    recorded: list[Record] = [record for setting, _ in settings for record in setting.runs.records.values()]
    if other := sum("data" in record and differs(record) for record in recorded):
        yield f"{other} runs were trained on other data: a different sha256 than the dataset"
    if len(devices := sorted({record["device"]["type"] for record in recorded})) > 1:
        yield f"runs on {' and '.join(devices)} are mixed"


def _untuned(config: Config, scale: str, store: Store) -> str:
    """Why the rates of a run are not those chosen by the standard budget of trials; empty if they are."""
    model, rule, folder = config.model, config.rule, store.folder.parent
    if protocol(model, scale).tune is None:
        return ""
    if own := departures(config, scale, folder).keys() & set(SEARCHED):
        return f"{', '.join(sorted(own))} set by hand; expected: what `bench tune` chooses"
    kept: Mapping = searches(model, scale, folder)
    if rule not in kept:
        tuned = rule in searches(model, scale, COMMITTED)
        return "" if tuned else f"not tuned; expected: bench tune --model {model} --scale {scale} --rule {rule}"
    find = finder(model, store)
    data = where_tuned(model, scale, rule, find)
    rounds = trials(model, scale, rule, find, data)
    if missing := sum(not is_final(find(trial)) for of_round in rounds for trial in of_round):
        return f"{missing} trials of its tuning have no record"
    if choice(model, scale, rule, find, data).chosen != kept[rule].chosen:
        return "its tuned settings are not those that its trials choose"
    return ""
