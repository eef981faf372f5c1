"""`bench sweep` and `bench tune`: many runs, training only those without a record."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from bench.commands.show import COST_COLUMNS, console, duration, in_words, interrupted, left_out, outcome, table
from bench.config import Config
from bench.errors import CannotWrite, UsageError
from bench.records.index import Index
from bench.records.store import Record, Store
from bench.sweeps.estimate import estimate, measured, timings
from bench.sweeps.executors import local, slurm
from bench.sweeps.executors.cluster import Cluster
from bench.sweeps.experiments import Experiment, alternative
from bench.sweeps.groups import parts
from bench.sweeps.missing import check, missing
from bench.sweeps.protocols import searches
from bench.training.process import cores


def sweep(
    found: Experiment,
    scale: str,
    *,
    results: Path,
    claims: bool = False,
    dry_run: bool = False,
    budget: float | None = None,
    workers: int | None,
    population: int | None,
    device: str,
    cluster: Cluster | None = None,
    submit_only: bool = False,
) -> int:
    """Shows the missing runs of an experiment at a scale, all of them or those that claims read, and trains them.

    Trains on `workers` local processes (default: one per core, or one on a GPU), or in cluster jobs with as many each.
    """
    started = time.monotonic()
    configs = found.configs(scale, results=results, claims=claims)
    store = Store(results / scale)
    experiments = [found.name, *found.reuses]
    index = Index.of(store, experiments)
    todo = index.missing(configs, experiments)
    left_out(index.refused)
    _show_plan(f"{found.name} at scale {scale}: {found.title}", configs, todo)
    if not todo:
        return 0
    seconds = _estimates(todo, scale, results, device)
    estimates = [seconds[config.digest] for config in todo if config.digest in seconds]
    at_once = min(len(todo), cluster.at_once) if cluster else _here(workers, device)
    if estimates:
        total = duration(max(sum(estimates) / at_once, max(estimates)))
        typer.echo(f"estimate: {total} with {at_once} in parallel")
    else:
        typer.echo("no estimate: no run of this model is recorded yet")
    if dry_run:
        return 0
    settings: dict[str, Any] = {"device": device, "population": population, "reuses": found.reuses}
    if cluster:
        settings |= {"workers": workers, "submit_only": submit_only}
        execute = partial(slurm.run_all, cluster=cluster, seconds=seconds, **settings)
    else:
        deadline = started + _usable(budget, todo, estimates, population)
        execute = partial(local.run_all, workers=at_once, deadline=deadline, **settings)
    ended = _run(todo, store, found.name, scale, at_once, execute)
    if submit_only:
        return 0
    left = len(todo) - ended["ok"] - ended["diverged"] - ended["failed"]
    if left:
        typer.echo(f"budget reached, {left} runs missing")
    return int(ended["failed"] > 0)


def show_estimate(found: Experiment, scale: str, gpu: str, *, results: Path, claims: bool, workers: int) -> int:
    """Shows what the missing runs would take on a GPU used by `workers` processes; needs no data."""
    from bench.sweeps.roofline import cost, gpu_called

    device = gpu_called(gpu)
    configs = found.configs(scale, alternative(0), results, claims=claims)
    todo = missing(configs, Store(results / scale), [found.name, *found.reuses])
    title = f"{found.name} at scale {scale} on one {device.name}, {workers} in parallel"
    table(title, COST_COLUMNS, [in_words(cost(todo, device, workers))])
    return 0


def tune(
    model: str,
    scale: str,
    rules: Sequence[str],
    *,
    results: Path,
    budget: float | None = None,
    workers: int | None,
    device: str,
    cluster: Cluster | None = None,
) -> int:
    """Runs the missing trials of each rule, one round for all rules after the other, and saves the best settings.

    Nothing is chosen if a trial failed or the budget ended the search. Raises `UsageError` for a budget too short for
    one trial and for a damaged settings file, before anything is trained.
    """
    from bench.sweeps.tune import EXPERIMENT, ROUNDS, choose, trials

    started = time.monotonic()
    searches(model, scale, results)
    rules = list(dict.fromkeys(rules))
    store = Store(results / scale)
    name = EXPERIMENT.format(model=model)
    left_out(Index.of(store, [name]).refused)

    def find(config: Config) -> Record | None:
        return store.find(config, [name])

    deadline = math.inf
    for number, size in enumerate(ROUNDS, 1):
        plans = [trials(model, scale, rule, find)[:number] for rule in rules]
        todo = missing([config for plan in plans for of_round in plan for config in of_round], store, [name])
        if not todo:
            continue
        if budget is not None and deadline == math.inf:
            deadline = started + _usable(budget, todo, [measured(todo[0], device)] * len(todo), 1)
        typer.echo(f"round {number} of {len(ROUNDS)}: {len(todo)} of {size * len(rules)} trials missing")
        at_once = min(len(todo), cluster.at_once) if cluster else _here(workers, device)
        settings: dict[str, Any] = {"device": device, "population": 1}
        if cluster:
            seconds = _estimates(todo, scale, results, device)
            execute = partial(slurm.run_all, cluster=cluster, workers=workers, seconds=seconds, **settings)
        else:
            execute = partial(local.run_all, workers=at_once, deadline=deadline, **settings)
        ended = _run(todo, store, name, scale, at_once, execute)
        if failed := ended["failed"]:
            typer.echo(f"trials failed: {failed} of {len(todo)}, so nothing is chosen; the same command repeats them")
            return 1
        if left := len(todo) - ended["ok"] - ended["diverged"]:
            later = sum(ROUNDS[number:]) * len(rules)
            typer.echo(f"budget reached, {left + later} trials missing, so nothing is chosen yet")
            return 0
    status = 0
    for rule in rules:
        try:
            found = choose(model, scale, rule, find, results)
        except UsageError as error:
            typer.echo(str(error))
            status = 1
            continue
        rows = []
        for trial in found.trials:
            chosen = found.chosen.items() <= trial.items()
            rows.append([*(trial | {"accuracy": f"{trial['accuracy']:.2f}"}).values(), "chosen" if chosen else ""])
        table(f"{rule}: trials for {model} at scale {scale}", [*found.trials[0], ""], rows)
    return status


def _here(workers: int | None, device: str) -> int:
    """Number of local processes: `workers` if given, else one per core, or one on a GPU."""
    return workers or (1 if device == "cuda" else cores())


def _show_plan(title: str, configs: Sequence[Config], todo: Sequence[Config]) -> None:
    def row(config: Config) -> tuple[str, str]:
        """Groups of classes of the same size share a row."""
        return config.setting, config.dataset.partition("@")[0]

    rows = []
    lacking = Counter(map(row, todo))
    for key, runs in Counter(map(row, configs)).items():
        rows.append([*key, runs, runs - lacking[key], lacking[key]])
    total = ["all", "", len(configs), len(configs) - len(todo), len(todo)]
    table(title, ["setting", "dataset", "runs", "recorded", "missing"], [*rows, total])


def _estimates(todo: Sequence[Config], scale: str, results: Path, device: str) -> dict[str, float]:
    """Estimated seconds for each run of a model, by digest; empty if none of its runs is recorded."""
    known = timings(results, device, todo[0].model)
    return {c.digest: seconds for c in todo if (seconds := estimate(c, scale, known)) is not None}


def _usable(budget: float | None, todo: Sequence[Config], estimates: Sequence[float], population: int | None) -> float:
    """Seconds after which runs pause, so that the last of them finishes its epochs within the budget."""
    if budget is None:
        return math.inf
    if not estimates:
        return budget
    if budget < min(estimates):
        least = f"expected: {math.ceil(min(estimates))} or more"
        raise UsageError(f"--budget {budget:g}: too short for one run, about {duration(min(estimates))}; {least}")
    epochs = {c.digest: e * c.log_every / c.epochs for e, c in zip(estimates, todo, strict=True)}
    between_pauses = max(sum(epochs[config.digest] for config in part) for part in parts(todo, population))
    return budget - min(1.5 * between_pauses, budget / 2)


def _run(
    configs: Sequence[Config],
    store: Store,
    name: str,
    scale: str,
    at_once: int,
    execute: Callable[..., None],
) -> Counter[str]:
    """Has `execute` run `configs`, printing a line for each; returns how many ended in which status."""
    ended: Counter[str] = Counter()
    seconds = 0.0
    out = console()
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=out, transient=True, disable=not out.is_terminal)

    def done(config: Config, record: Record) -> None:
        nonlocal seconds
        ended[record["status"]] += 1
        seconds += record.get("seconds", 0.0)
        n = ended.total()
        left = duration(seconds / n * (len(configs) - n) / at_once)
        took = duration(record.get("seconds", 0.0))
        out.print(f"{n}/{len(configs)}  {config.slug}  {outcome(record)}  {took}  {left} left", soft_wrap=True)
        bar.advance(task)

    try:
        check(configs)
        with bar:
            task = bar.add_task("", total=len(configs))
            execute(configs, store, name, scale, done=done, say=lambda line: out.print(line, soft_wrap=True))
    except CannotWrite as error:
        raise CannotWrite(
            f"{error}; {ended['ok'] + ended['diverged']} runs recorded; the same command resumes the rest"
        ) from None
    except KeyboardInterrupt as error:
        interrupted(error, ended["ok"] + ended["diverged"])
    return ended
