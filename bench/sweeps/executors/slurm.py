"""Runs configurations in Slurm jobs: submits the missing ones as one job array and watches for their records."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from bench.config import Config
from bench.errors import UsageError
from bench.records.store import Record, Store, writable
from bench.sweeps.executors.cluster import Cluster, packed
from bench.sweeps.executors.jobs import Array, Job, Queue, arrays_of
from bench.sweeps.missing import Plan, is_final

LOOK = 2.0
"""Seconds between checks for new records."""
ASK = 30.0
"""Seconds between queries of the queue."""


def run_all(
    plans: Sequence[Plan],
    store: Store,
    scale: str,
    *,
    device: str,
    workers: int | None,
    population: int | None,
    cluster: Cluster,
    seconds: Mapping[str, float],
    done: Callable[[Config, Record], None],
    say: Callable[[str], None] = lambda line: None,
    submit_only: bool = False,
) -> None:
    """Submits the plans' runs that are in no job; unless `submit_only`, waits for all and calls `done` with each.

    A job has `workers` processes; None means one per requested core on the CPU, and one on a GPU. `seconds` are the
    estimated times of runs, by digest; programs without an estimate get their own job. Raises `UsageError` if a job
    cannot be submitted, or if jobs ended before their runs did.
    """
    writable(store.folder)
    queue = Queue(cluster, say)
    at_once = workers or (1 if device == "cuda" else cluster.parameters.get("cpus_per_task", 1))

    def submit(plan: Plan) -> list[Array]:
        """The arrays that have the plan's runs, with those that were in no job in a new one."""
        arrays = [array for array in arrays_of(store) if array.experiment in plan.experiments]
        submitted = queue.submitted(arrays)
        if submitted is None:
            unknown = f"{queue.problem}; cannot tell which jobs are queued, so none is submitted"
            raise UsageError(f"{cluster.path}: {unknown}")
        rest = [config for config in plan.runs if config.digest not in submitted]
        if joined := len(plan.runs) - len(rest):
            say(f"joined: {joined} runs are already in jobs")
        if rest:
            folder, reuses = str(store.folder.resolve()), tuple(plan.reuses)
            jobs = [
                Job(tuple(part), folder, plan.experiment, reuses, scale, device, at_once, population)
                for part in packed(rest, population, cluster, seconds, at_once)
            ]
            arrays.append(queue.submit(store, plan.experiment, jobs))
            say(f"submitted: {len(rest)} runs in {len(jobs)} jobs, {arrays[-1].name}")
        return arrays

    before = [{config.digest: store.find(config, plan.experiments) for config in plan.runs} for plan in plans]
    arrays = [submit(plan) for plan in plans]
    if submit_only:
        return
    try:
        for plan, records, of_plan in zip(plans, before, arrays, strict=True):
            waiting = {config.digest: config for config in plan.runs}
            _watch(waiting, records, store, plan.experiments, queue, of_plan, done, say)
    except KeyboardInterrupt:
        say("the jobs continue; the same command joins them")
        raise


def _watch(
    waiting: dict[str, Config],
    before: Mapping[str, Record | None],
    store: Store,
    experiments: Sequence[str],
    queue: Queue,
    arrays: Sequence[Array],
    done: Callable[[Config, Record], None],
    say: Callable[[str], None],
) -> None:
    """Waits until each run in `waiting` has a new record since `before`. Raises `UsageError` if jobs ended first."""
    job_of = {digest: (array, n) for array in arrays for n, part in enumerate(array.parts) for digest in part}
    gone: set[tuple[str, int]] = set()
    """Jobs that had ended at the last query; on a network file system their files may appear later."""
    lost: dict[tuple[str, int], str] = {}

    def collect() -> None:
        for digest, config in list(waiting.items()):
            record = store.find(config, experiments)
            if record is not None and (is_final(record) or record != before[digest]):
                del waiting[digest]
                done(config, record)

    def look_for_lost(submitted: Mapping[str, str]) -> None:
        ended = Counter((job_of[digest][0].name, job_of[digest][1]) for digest in waiting.keys() - submitted.keys())
        names = {array.name: array for array in arrays}
        for (name, number), runs in ended.items():
            if (name, number) in gone - lost.keys():
                words = f"a job ended before {runs} of its runs did: {names[name].last_line(number)}"
                lost[name, number] = words
                say(words)
        gone.update(ended)
        if lost and not waiting.keys() & submitted.keys():
            words = next(reversed(lost.values()))
            raise UsageError(f"{words}; the same command submits the remaining {len(waiting)} runs")

    asked = -math.inf
    collect()
    while waiting:
        if time.monotonic() - asked >= ASK:
            asked, submitted = time.monotonic(), queue.submitted(arrays)
            collect()
            if submitted is not None:
                look_for_lost(submitted)
        time.sleep(LOOK)
        collect()
