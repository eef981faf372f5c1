"""Slurm jobs, through submitit: what a job does, which jobs were submitted together, and which are still running.

A job trains its runs like a sweep on its own node, with claims and checkpoints, so any process, job or controller may
be killed: existing records stay, and the rest can be submitted again. submitit's executors `local` and `debug` run the
same jobs on this machine.
"""

import io
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import Config
from bench.errors import UsageError, one_line
from bench.files import write_text
from bench.records.store import Store
from bench.sweeps.executors import local
from bench.sweeps.executors.cluster import Cluster
from bench.sweeps.missing import Plan, missing
from bench.training.process import Terminated

REQUEUES = 1_000
"""How many times a job may reach its time limit."""


@dataclass(frozen=True)
class Job:
    """The runs of one job, called on its node."""

    configs: tuple[Config, ...]
    folder: str
    """Absolute path of the scale's folder."""
    experiment: str
    reuses: tuple[str, ...]
    scale: str
    device: str
    workers: int
    population: int | None

    def __call__(self) -> None:
        try:
            self._train()
        except Terminated as error:
            if error.signal == signal.SIGUSR2:
                os.kill(os.getpid(), signal.SIGUSR2)  # handled by submitit, which requeues the job
            sys.exit("terminated; the runs resume when Slurm requeues the job or they are submitted again")
        except UsageError as error:
            print("error:", one_line(error), file=sys.stderr)
            sys.exit(2)

    def _train(self) -> None:
        if self.device == "cuda" and not _has_gpu():
            raise UsageError("--device cuda: the job has no GPU; expected: gpus_per_node in the cluster file")
        store = Store(Path(self.folder))
        with local.Workers(self.workers) as workers:
            plan = Plan(self.experiment, self.reuses, self.configs)
            local.run_all(
                [plan._replace(runs=missing(plan.runs, store, plan.experiments))],
                store,
                self.scale,
                device=self.device,
                workers=workers,
                population=self.population,
                deadline=math.inf,
                done=lambda config, record: print(f"{config.slug}  {record['status']}", flush=True),
                say=lambda line: print(line, flush=True),
            )

    def checkpoint(self) -> Any:
        """Called by submitit when the job is requeued: the same job, because its runs have their own checkpoints."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@dataclass
class Array:
    """Jobs that were submitted together; `bench sweep` finds them again by their folder."""

    folder: Path
    experiment: str
    executor: str
    parts: list[list[str]]
    """Digests of the runs of each job."""
    ids: list[str]
    """Ids of the jobs, once known."""

    @property
    def name(self) -> str:
        """The jobs' name in the queue."""
        return self.folder.name

    def save(self) -> None:
        kept = {key: value for key, value in vars(self).items() if key != "folder"}
        write_text(self.folder / "array.json", json.dumps(kept))

    def last_line(self, number: int) -> str:
        """The last line of a job's output, with the path of its log."""
        log = self.folder / f"{self.ids[number]}_0_log.err" if number < len(self.ids) else self.folder
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        said = [line.strip() for line in lines if line.strip() and not line.startswith("srun:")]
        return f"{one_line(said[-1]) if said else 'no output'} (log: {log})"


def arrays_of(store: Store) -> list[Array]:
    """The arrays submitted for a results folder, in order."""
    paths = sorted(store.folder.glob("jobs/*/array.json"), key=lambda path: path.stat().st_mtime)
    return [_read(path) for path in paths]


def _read(path: Path) -> Array:
    try:
        return Array(path.parent, **json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{path}: damaged ({error}); if none of its jobs is left in the queue, delete {path.parent}"
        ) from None


class Queue:
    """Submits jobs and knows which of them are still running."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self.cluster, self.say = cluster, say
        self.jobs: dict[str, list[Any]] = {}
        """The submitit jobs of this process, by the name of the array."""
        self.problem = ""
        self.states: Counter[str] = Counter()

    def submit(self, store: Store, experiment: str, jobs: Sequence[Job]) -> Array:
        """Submits jobs as one array. The array is recorded first, so that no job is submitted twice."""
        folder = store.folder / "jobs" / f"{experiment}-{secrets.token_hex(4)}"
        parts = [[config.digest for config in job.configs] for job in jobs]
        array = Array(folder, experiment, self.cluster.executor, parts, [])
        array.save()
        try:
            with redirect_stderr(io.StringIO()):  # submitit prints to it in addition to its error
                submitted = self.cluster.of_submitit(folder, folder.name, REQUEUES).submit_array(jobs)
        except Exception as error:
            shutil.rmtree(folder)
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UsageError(f"{self.cluster.path}: {lines[-1].removeprefix('sbatch: error: ')}") from None
        self.jobs[array.name], array.ids = submitted, [job.job_id for job in submitted]
        array.save()
        if self.cluster.executor == "debug":
            for job in submitted:
                job.results()
        return array

    def submitted(self, arrays: Sequence[Array]) -> dict[str, str] | None:
        """The job state by digest of the run, for jobs that have not ended; None if Slurm does not answer."""
        queued = self._ask() if self.cluster.executor == "slurm" else self._own()
        if queued is None:
            return None
        found = {
            digest: queued[array.name, number]
            for array in arrays
            for number, part in enumerate(array.parts)
            if (array.name, number) in queued
            for digest in part
        }
        names = {array.name for array in arrays}
        states = Counter(state.lower() for (name, _), state in queued.items() if name in names)
        if states and states != self.states:
            self.say("jobs: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
        self.states = states
        return found

    def _own(self) -> dict[tuple[str, int], str]:
        return {
            (name, number): "running"
            for name, jobs in self.jobs.items()
            for number, job in enumerate(jobs)
            if not job.done()
        }

    def _ask(self) -> dict[tuple[str, int], str] | None:
        command = ["squeue", "--me", "--noheader", "--array", "--format=%j|%K|%T"]
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode:
            problem = "squeue: " + (answer.stderr.strip().splitlines() or ["no answer"])[-1]
            if problem != self.problem:
                self.say(f"{problem}; progress comes from the records alone")
            self.problem = problem
            return None
        self.problem = ""
        jobs = (line.rsplit("|", 2) for line in answer.stdout.splitlines())
        return {(name, int(task) if task.isdigit() else 0): state for name, task, state in jobs}
