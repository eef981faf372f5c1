"""Planned runs: where they are trained, what time they may take, and the line that each prints as it ends."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from bench.commands.show import console, duration, interrupted, outcome
from bench.config import Config
from bench.errors import CannotWrite, UsageError
from bench.records.store import Record, Store
from bench.sweeps.estimate import estimate, timings
from bench.sweeps.executors import local, slurm
from bench.sweeps.executors.cluster import Cluster
from bench.sweeps.groups import parts
from bench.sweeps.missing import Plan, check
from bench.training.process import cores


@dataclass(frozen=True)
class Place:
    """Where runs are trained: in `workers` local processes, or in cluster jobs with as many processes each."""

    device: str
    workers: int | None = None
    """None for one per core, or one on a GPU."""
    cluster: Cluster | None = None
    submit_only: bool = False
    """Whether the cluster's jobs are not waited for."""

    def at_once(self, runs: int) -> int:
        """How many of so many runs are trained at the same time."""
        if self.cluster:
            return min(runs, self.cluster.at_once)
        return min(max(1, runs), self.workers or (1 if self.device == "cuda" else cores()))

    def train(
        self,
        plans: Sequence[Plan],
        store: Store,
        scale: str,
        *,
        population: int | None,
        seconds: Mapping[str, float],
        deadline: float,
    ) -> Counter[str]:
        """Trains the plans' runs in order, printing a line for each; returns how many ended in which status.

        `seconds` are the estimates of runs, by digest; `deadline` is as in `local.run_all`.
        """
        at_once = self.at_once(sum(len(plan.runs) for plan in plans))
        settings: dict[str, Any] = {"device": self.device, "population": population}
        if self.cluster:
            settings |= {"workers": self.workers, "seconds": seconds, "submit_only": self.submit_only}
            return _train(plans, store, scale, at_once, partial(slurm.run_all, cluster=self.cluster, **settings))
        with local.Workers(at_once) as workers:
            execute = partial(local.run_all, workers=workers, deadline=deadline, **settings)
            return _train(plans, store, scale, at_once, execute)


def estimates(todo: Sequence[Config], scale: str, results: Path, device: str) -> dict[str, float]:
    """Estimated seconds for each run, by digest; without those of models of which no run is recorded."""
    known = {model: timings(results, device, model) for model in dict.fromkeys(config.model for config in todo)}
    return {c.digest: seconds for c in todo if (seconds := estimate(c, scale, known[c.model])) is not None}


def usable(budget: float | None, todo: Sequence[Config], seconds: Mapping[str, float], population: int | None) -> float:
    """Seconds after which runs pause, so that the last of them finishes its epochs within the budget.

    `seconds` are the estimates of runs, by digest.
    """
    if budget is None:
        return math.inf
    if not seconds:
        return budget
    if budget < (shortest := min(seconds.values())):
        expected = f"expected: {math.ceil(shortest)} or more"
        raise UsageError(f"--budget {budget:g}: too short for one run, about {duration(shortest)}; {expected}")
    known = [config for config in todo if config.digest in seconds]
    epochs = {config.digest: seconds[config.digest] * config.log_every / config.epochs for config in known}
    between_pauses = max(sum(epochs[config.digest] for config in part) for part in parts(known, population))
    return budget - min(1.5 * between_pauses, budget / 2)


def time_left(waiting: Mapping[str, int], seconds: Mapping[str, Sequence[float]], at_once: int) -> str:
    """Words for the time that the waiting runs of each network take, from the seconds of those that ended.

    Empty while no run of a waiting network has ended: the networks of a sweep take different times.
    """
    if any(runs and not seconds[model] for model, runs in waiting.items()):
        return ""
    left = sum(runs * mean(seconds[model]) for model, runs in waiting.items() if runs)
    return f"  {duration(left / at_once)} left"


def _train(plans: Sequence[Plan], store: Store, scale: str, at_once: int, execute: Callable[..., None]) -> Counter[str]:
    ended: Counter[str] = Counter()
    waiting = Counter(config.model for plan in plans for config in plan.runs)
    seconds: dict[str, list[float]] = {model: [] for model in waiting}
    total = waiting.total()
    out = console()
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=out, transient=True, disable=not out.is_terminal)

    def done(config: Config, record: Record) -> None:
        ended[record["status"]] += 1
        waiting[config.model] -= 1
        seconds[config.model].append(record.get("seconds", 0.0))
        took = duration(record.get("seconds", 0.0))
        left = time_left(waiting, seconds, at_once)
        out.print(f"{ended.total()}/{total}  {config.slug}  {outcome(record)}  {took}{left}", soft_wrap=True)
        bar.advance(task)

    def say(line: str) -> None:
        out.print(line, soft_wrap=True)

    try:
        for plan in plans:
            check(plan.runs)
        with bar:
            task = bar.add_task("", total=total)
            execute([plan for plan in plans if plan.runs], store, scale, done=done, say=say)
    except CannotWrite as error:
        raise CannotWrite(
            f"{error}; {ended['ok'] + ended['diverged']} runs recorded; the same command resumes the rest"
        ) from None
    except KeyboardInterrupt as error:
        interrupted(error, ended["ok"] + ended["diverged"])
    return ended
