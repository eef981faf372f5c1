"""Runs many configurations, side by side, in processes that share nothing but the store."""

import fcntl
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import Config
from bench.errors import UsageError
from bench.files import write_atomically
from bench.process import train_alone
from bench.programs import fitting, programs
from bench.records import Record, Store, failed_record, record_of, source_revision, writable

if TYPE_CHECKING:
    from bench.data.base import Data

CONTEXT = multiprocessing.get_context("spawn")
ONE_BY_ONE = "runs at once failed, so they go on one by one: {}"


def missing(configs: Sequence[Config], store: Store, experiments: Sequence[str]) -> list[Config]:
    """Those of `configs` that are to be run: none of `experiments` has a valid record, or the run failed."""

    def recorded(config: Config) -> bool:
        record = store.find(config, experiments)
        return record is not None and record["status"] != "failed"

    return [config for config in configs if not recorded(config)]


def check(configs: Sequence[Config]) -> None:
    """Builds one network a setting. Raises `UsageError` for a setting that cannot run, before anything is written."""
    from bench.augment import augmentation
    from bench.learner import prepare

    alike = {replace(config, seed=0, lr=0.0, weight_decay=0.0, feedback_rate=0.0).digest: config for config in configs}
    for config in alike.values():
        prepare(config, "cpu", _load)
        for spec in config.augment:
            augmentation(spec)


def run(
    config: Config,
    store: Store,
    experiment: str,
    scale: str,
    device: str,
    progress: Callable[[dict[str, Any]], None] = lambda entry: None,
    weights: Path | None = None,
) -> Record:
    """Trains one network and writes its record; resumes from its checkpoint.

    A run that an error ends keeps its checkpoint, and is recorded as failed; `UsageError` is raised, nothing written.
    `progress` is told of each entry of the history. `weights` is where the trained network's `state_dict` goes.
    """
    (record,) = train_program([config], store, experiment, scale, device, progress=progress, weights=weights)
    return record


def train_program(
    configs: Sequence[Config],
    store: Store,
    experiment: str,
    scale: str,
    device: str,
    deadline: float = math.inf,
    progress: Callable[[dict[str, Any]], None] = lambda entry: None,
    weights: Path | None = None,
) -> list[Record]:
    """The records of runs trained as one program. Paused runs give records unwritten; several raise their error."""
    import torch

    from bench.train import train_together

    checkpoint = store.checkpoint(configs)
    try:
        outcomes = train_together(
            configs, device=device, checkpoint=checkpoint, deadline=deadline, loader=_load, progress=progress
        )
    except UsageError:
        raise
    except Exception as error:
        if len(configs) > 1:
            raise
        records = [failed_record(configs[0], experiment, scale, device, _reason(error))]
    else:
        ended = zip(configs, outcomes, strict=True)
        records = [record_of(config, experiment, scale, device, outcome) for config, outcome in ended]
        if weights is not None:
            state = outcomes[0].learner.network.cpu().state_dict()
            write_atomically(weights, lambda file: torch.save(state, file))
    for config, record in zip(configs, records, strict=True):
        if record["status"] != "paused":
            store.write(record, store.path(experiment, config))
    if records[0]["status"] in ("ok", "diverged"):
        checkpoint.unlink(missing_ok=True)
    return records


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def train_first(
    program: Sequence[Config],
    most: int | None,
    store: Store,
    experiment: str,
    scale: str,
    device: str,
    deadline: float,
) -> tuple[list[Record], str]:
    """Trains the first runs of a program, `most` of them or as many as memory holds: their records, and what was said.

    Where memory runs out half of them go on; where anything else goes wrong, one, as what is alone may run.
    """
    import torch

    members, said = min(most or len(program), len(program)), ""
    while True:
        try:
            if most is None and not said:
                members = _paused(program, store) or fitting(program, device, _load)
            return train_program(program[:members], store, experiment, scale, device, deadline), said
        except UsageError:
            raise
        except Exception as error:
            if members == 1:
                raise
            store.checkpoint(program[:members]).unlink(missing_ok=True)
            if isinstance(error, torch.OutOfMemoryError):
                members = math.ceil(members / 2)
                said = f"out of memory: {members} runs at once from here on"
            else:
                members = 1
                said = ONE_BY_ONE.format(_reason(error))


def _paused(program: Sequence[Config], store: Store) -> int:
    """How many of its first runs have a checkpoint together; 0 for none."""
    return next((n for n in range(len(program), 0, -1) if store.checkpoint(program[:n]).exists()), 0)


def _load(name: str, seed: int) -> "Data":
    """The data of a run. What comes in files is read once a process, whichever part of it a run takes."""
    from bench.data import is_drawn, parse_name

    if is_drawn(name):
        return _load_once(name, seed)
    base, part = parse_name(name)
    whole = _load_once(base, 0)
    return whole.classes(part) if part else whole


@lru_cache(maxsize=2)
def _load_once(name: str, seed: int) -> "Data":
    from bench.data import load

    return load(name, seed)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds a results folder for one sweep. Raises `UsageError` where it cannot be written or another sweep has it."""
    writable(folder)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another sweep is running on {folder}: wait for it, or stop it") from None
        yield


def run_all(
    configs: Sequence[Config],
    store: Store,
    experiment: str,
    scale: str,
    *,
    device: str,
    workers: int,
    population: int | None = 1,
    deadline: float,
    done: Callable[[Config, Record], None],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Runs `configs` in order on `workers` processes and tells `done` of each as it ends.

    `population` is how many runs that are alike train as one program at most, None for as many as a GPU's memory
    holds; `say` is told where that did not work. Past `deadline` (of `time.monotonic`) runs in progress are
    checkpointed and none starts. An interrupt ends the workers at once, and each loses what it did since its last
    checkpoint. A run that cannot run, or whose process dies, is recorded as failed and keeps its checkpoint.
    """
    queue = deque((program, population) for program in parts(configs, population))
    running: dict[Future[tuple[list[Record], str]], tuple[list[Config], int | None, ProcessPoolExecutor]] = {}
    with ExitStack() as stack:

        def pool_of_one() -> ProcessPoolExecutor:
            return stack.enter_context(ProcessPoolExecutor(1, mp_context=CONTEXT, initializer=_start_worker))

        def failed(config: Config, reason: str) -> Record:
            record = failed_record(config, experiment, scale, device, reason)
            store.write(record, store.path(experiment, config))
            return record

        idle = [pool_of_one() for _ in range(workers)]
        try:
            while True:
                while idle and queue and time.monotonic() < deadline:
                    pool, (program, most) = idle.pop(), queue.popleft()
                    job = pool.submit(train_first, program, most, store, experiment, scale, device, deadline)
                    running[job] = program, most, pool
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    program, most, pool = running.pop(future)
                    try:
                        records, said = future.result()
                    except (BrokenProcessPool, UsageError) as error:
                        died = isinstance(error, BrokenProcessPool)
                        pool = pool_of_one() if died else pool
                        reason = "its process died" if died else str(error)
                        alone = most == 1 or len(program) == 1
                        records, said = ([failed(program[0], reason)], "") if alone else ([], ONE_BY_ONE.format(reason))
                    idle.append(pool)
                    if said:
                        say(said)
                        most = max(1, len(records))
                    rest = program[len(records) :]
                    queue.extendleft((part, most) for part in reversed(_cut(rest, most)))
                    for config, record in zip(program, records, strict=False):
                        done(config, record)
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def parts(configs: Sequence[Config], population: int | None) -> list[list[Config]]:
    """The runs as programs of at most `population` runs; None for as many as are alike."""
    if population == 1:
        return _cut(configs, 1)
    return [part for program in programs(configs, _load) for part in _cut(program, population)]


def _cut(program: Sequence[Config], most: int | None) -> list[list[Config]]:
    size = most or max(1, len(program))
    return [list(program[start : start + size]) for start in range(0, len(program), size)]


def _start_worker() -> None:
    """Readies a worker for one run at a time; no worker outlives its sweep."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source_revision()
    train_alone()

    def follow_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
