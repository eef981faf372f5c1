"""`bench sweep` and `bench tune`: many runs, training only those without a record."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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


class Plan(NamedTuple):
    """What is to be trained for an experiment or a tuning."""

    name: str
    reuses: Sequence[str]
    runs: list[Config]


def sweep(
    experiments: Sequence[Experiment],
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
    """Shows the missing runs of experiments at a scale, all or those that claims read, and trains them in order.

    Trains on `workers` local processes (default: one per core, or one on a GPU), or in cluster jobs with as many each.
    """
    started = time.monotonic()
    store = Store(results / scale)
    grids = [found.configs(scale, results=results, claims=claims) for found in experiments]
    plans = _plans(experiments, grids, store, partial(_show_plan, scale))
    todo = [config for plan in plans for config in plan.runs]
    if not todo:
        return 0
    seconds = _estimates(todo, scale, results, device)
    at_once = min(len(todo), cluster.at_once) if cluster else _here(workers, device)
    if unknown := dict.fromkeys(config.model for config in todo if config.digest not in seconds):
        models = f"of {', '.join(unknown)}" if len({config.model for config in todo}) > 1 else "of this model"
        typer.echo(f"no estimate: no run {models} is recorded yet")
    else:
        total = duration(max(sum(seconds.values()) / at_once, max(seconds.values())))
        typer.echo(f"estimate: {total} with {at_once} in parallel")
    if dry_run:
        return 0
    settings: dict[str, Any] = {"device": device, "population": population}
    if cluster:
        settings |= {"workers": workers, "seconds": seconds, "submit_only": submit_only}
        ended = _run(plans, store, scale, at_once, partial(slurm.run_all, cluster=cluster, **settings))
    else:
        deadline = started + _usable(budget, todo, seconds, population)
        with local.Workers(at_once) as processes:
            execute = partial(local.run_all, workers=processes, deadline=deadline, **settings)
            ended = _run(plans, store, scale, at_once, execute)
    if submit_only:
        return 0
    left = len(todo) - ended["ok"] - ended["diverged"] - ended["failed"]
    if left:
        typer.echo(f"budget reached, {left} runs missing")
    return int(ended["failed"] > 0)


def show_estimate(
    experiments: Sequence[Experiment], scale: str, gpu: str, *, results: Path, claims: bool, workers: int
) -> int:
    """Shows what the missing runs would take on a GPU used by `workers` processes; needs no data."""
    from bench.sweeps.roofline import cost, gpu_called

    device = gpu_called(gpu)
    grids = [found.configs(scale, alternative(0), results, claims=claims) for found in experiments]
    plans = _plans(experiments, grids, Store(results / scale))
    rows = [[plan.name, *in_words(cost(plan.runs, device, workers))] for plan in plans]
    if len(plans) > 1:
        rows.append(["all", *in_words(cost([config for plan in plans for config in plan.runs], device, workers))])
    table(f"scale {scale} on one {device.name}, {workers} in parallel", ["experiment", *COST_COLUMNS], rows)
    return 0


def _plans(
    experiments: Sequence[Experiment],
    grids: Sequence[Sequence[Config]],
    store: Store,
    show: Callable[[Experiment, Sequence[Config], Sequence[Config]], None] = lambda *_: None,
) -> list[Plan]:
    """Plans the missing runs of each experiment's grid; `show` is called with the experiment, its grid and those runs.

    A run that an experiment reuses from an earlier one is planned once, there.
    """
    plans: list[Plan] = []
    index = Index.of(store, dict.fromkeys(name for found in experiments for name in [found.name, *found.reuses]))
    left_out(index.refused)
    for found, configs in zip(experiments, grids, strict=True):
        todo = index.missing(configs, [found.name, *found.reuses])
        show(found, configs, todo)
        planned = {config.digest for plan in plans if plan.name in found.reuses for config in plan.runs}
        plans.append(Plan(found.name, found.reuses, [config for config in todo if config.digest not in planned]))
    return plans


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
            of_each = measured(todo[0], device)
            deadline = started + _usable(budget, todo, {config.digest: of_each for config in todo}, 1)
        typer.echo(f"round {number} of {len(ROUNDS)}: {len(todo)} of {size * len(rules)} trials missing")
        at_once = min(len(todo), cluster.at_once) if cluster else _here(workers, device)
        settings: dict[str, Any] = {"device": device, "population": 1}
        plan = Plan(name, (), todo)
        if cluster:
            settings |= {"workers": workers, "seconds": _estimates(todo, scale, results, device)}
            ended = _run([plan], store, scale, at_once, partial(slurm.run_all, cluster=cluster, **settings))
        else:
            with local.Workers(at_once) as processes:
                execute = partial(local.run_all, workers=processes, deadline=deadline, **settings)
                ended = _run([plan], store, scale, at_once, execute)
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


def _show_plan(scale: str, found: Experiment, configs: Sequence[Config], todo: Sequence[Config]) -> None:
    def row(config: Config) -> tuple[str, str]:
        """Groups of classes of the same size share a row."""
        return config.setting, config.dataset.partition("@")[0]

    rows = []
    lacking = Counter(map(row, todo))
    for key, runs in Counter(map(row, configs)).items():
        rows.append([*key, runs, runs - lacking[key], lacking[key]])
    total = ["all", "", len(configs), len(configs) - len(todo), len(todo)]
    title = f"{found.name} at scale {scale}: {found.title}"
    table(title, ["setting", "dataset", "runs", "recorded", "missing"], [*rows, total])


def _estimates(todo: Sequence[Config], scale: str, results: Path, device: str) -> dict[str, float]:
    """Estimated seconds for each run, by digest; without those of models of which no run is recorded."""
    known = {model: timings(results, device, model) for model in dict.fromkeys(config.model for config in todo)}
    return {c.digest: seconds for c in todo if (seconds := estimate(c, scale, known[c.model])) is not None}


def _usable(
    budget: float | None, todo: Sequence[Config], seconds: Mapping[str, float], population: int | None
) -> float:
    """Seconds after which runs pause, so that the last of them finishes its epochs within the budget.

    `seconds` are the estimates of runs, by digest.
    """
    if budget is None:
        return math.inf
    if not seconds:
        return budget
    if budget < min(seconds.values()):
        least = f"expected: {math.ceil(min(seconds.values()))} or more"
        raise UsageError(
            f"--budget {budget:g}: too short for one run, about {duration(min(seconds.values()))}; {least}"
        )
    known = [config for config in todo if config.digest in seconds]
    epochs = {config.digest: seconds[config.digest] * config.log_every / config.epochs for config in known}
    between_pauses = max(sum(epochs[config.digest] for config in part) for part in parts(known, population))
    return budget - min(1.5 * between_pauses, budget / 2)


def _run(plans: Sequence[Plan], store: Store, scale: str, at_once: int, execute: Callable[..., None]) -> Counter[str]:
    """Has `execute` run the plans in order, printing a line for each run; returns how many ended in which status."""
    ended: Counter[str] = Counter()
    seconds = 0.0
    total = sum(len(plan.runs) for plan in plans)
    out = console()
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=out, transient=True, disable=not out.is_terminal)

    def done(config: Config, record: Record) -> None:
        nonlocal seconds
        ended[record["status"]] += 1
        seconds += record.get("seconds", 0.0)
        n = ended.total()
        left = duration(seconds / n * (total - n) / at_once)
        took = duration(record.get("seconds", 0.0))
        out.print(f"{n}/{total}  {config.slug}  {outcome(record)}  {took}  {left} left", soft_wrap=True)
        bar.advance(task)

    def say(line: str) -> None:
        out.print(line, soft_wrap=True)

    try:
        for plan in plans:
            check(plan.runs)
        with bar:
            task = bar.add_task("", total=total)
            for plan in plans:
                if plan.runs:
                    execute(plan.runs, store, plan.name, scale, done=done, say=say, reuses=plan.reuses)
    except CannotWrite as error:
        raise CannotWrite(
            f"{error}; {ended['ok'] + ended['diverged']} runs recorded; the same command resumes the rest"
        ) from None
    except KeyboardInterrupt as error:
        interrupted(error, ended["ok"] + ended["diverged"])
    return ended
