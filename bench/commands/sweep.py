"""`bench sweep`: the missing runs of experiments."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import typer

from bench.commands.plans import Place, estimates, usable
from bench.commands.show import COST_COLUMNS, duration, in_words, left_out, table
from bench.config import Config
from bench.records.index import Index
from bench.records.store import Store
from bench.sweeps.experiments import Experiment, alternative
from bench.sweeps.missing import Plan


def sweep(
    experiments: Sequence[Experiment],
    scale: str,
    *,
    results: Path,
    place: Place,
    population: int | None,
    claims: bool = False,
    dry_run: bool = False,
    budget: float | None = None,
) -> int:
    """Shows the missing runs of experiments at a scale, all or those that claims read, and trains them in order."""
    started = time.monotonic()
    store = Store(results / scale)
    grids = [found.configs(scale, results=results, claims=claims) for found in experiments]
    plans = _plans(experiments, grids, store, partial(_show_plan, scale))
    todo = [config for plan in plans for config in plan.runs]
    if not todo:
        return 0
    seconds = estimates(todo, scale, results, place.device)
    at_once = place.at_once(len(todo))
    if unknown := dict.fromkeys(config.model for config in todo if config.digest not in seconds):
        models = f"of {' or '.join(unknown)}" if len({config.model for config in todo}) > 1 else "of this model"
        typer.echo(f"no estimate: no run {models} is recorded yet")
    else:
        total = duration(max(sum(seconds.values()) / at_once, max(seconds.values())))
        typer.echo(f"estimate: {total} with {at_once} in parallel")
    if dry_run:
        return 0
    deadline = started + usable(budget, todo, seconds, population)
    ended = place.train(plans, store, scale, population=population, seconds=seconds, deadline=deadline)
    if place.submit_only:
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
    rows = [[plan.experiment, *in_words(cost(plan.runs, device, workers))] for plan in plans]
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
        planned = {config.digest for plan in plans if plan.experiment in found.reuses for config in plan.runs}
        plans.append(Plan(found.name, found.reuses, [config for config in todo if config.digest not in planned]))
    return plans


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
