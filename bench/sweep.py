"""Runs many configurations, side by side, in processes that share nothing but the store."""

import fcntl
import math
import multiprocessing
import os
import signal
import threading
import time
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
from bench.records import Record, Store, failed_record, record_of, source_revision, writable

if TYPE_CHECKING:
    from bench.data.base import Data

CONTEXT = multiprocessing.get_context("spawn")


def missing(configs: Sequence[Config], store: Store, experiments: Sequence[str]) -> list[Config]:
    """Those of `configs` that are to be run: none of `experiments` has a valid record, or the run failed."""

    def recorded(config: Config) -> bool:
        record = store.find(config, experiments)
        return record is not None and record["status"] != "failed"

    return [config for config in configs if not recorded(config)]


def check(configs: Sequence[Config]) -> None:
    """Builds one network a setting. Raises `UsageError` for a setting that cannot run, before anything is written."""
    from bench.augment import augmentation
    from bench.train import prepare

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
    deadline: float = math.inf,
    progress: Callable[[dict[str, Any]], None] = lambda entry: None,
    weights: Path | None = None,
) -> Record:
    """Trains one network and writes its record; resumes from its checkpoint. A paused run gives a record unwritten.

    A run that an error ends keeps its checkpoint, and is recorded as failed; `UsageError` is raised, nothing written.
    `progress` is told of each entry of the history. `weights` is where the trained network's `state_dict` goes.
    """
    import torch

    from bench.train import train

    checkpoint = store.checkpoint(config)
    path = store.path(experiment, config)
    try:
        outcome = train(
            config, device=device, checkpoint=checkpoint, deadline=deadline, loader=_load, progress=progress
        )
    except UsageError:
        raise
    except Exception as error:
        record = failed_record(config, experiment, scale, device, f"{type(error).__name__}: {error}")
    else:
        record = record_of(config, experiment, scale, device, outcome)
        if weights is not None:
            state = outcome.learner.network.cpu().state_dict()
            write_atomically(weights, lambda file: torch.save(state, file))
    if record["status"] != "paused":
        store.write(record, path)
    if record["status"] in ("ok", "diverged"):
        checkpoint.unlink(missing_ok=True)
    return record


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
    deadline: float,
    done: Callable[[Config, Record], None],
) -> None:
    """Runs `configs` in order on `workers` processes and tells `done` of each as it ends.

    Past `deadline` (of `time.monotonic`) runs in progress are checkpointed and none starts. An interrupt ends the
    workers at once, and each loses what it did since its last checkpoint. A run that cannot run, or whose process
    dies, is recorded as failed and keeps its checkpoint.
    """
    queue = iter(configs)
    running: dict[Future[Record], tuple[Config, ProcessPoolExecutor]] = {}
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
                while idle and time.monotonic() < deadline and (config := next(queue, None)):
                    pool = idle.pop()
                    running[pool.submit(run, config, store, experiment, scale, device, deadline)] = config, pool
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    config, pool = running.pop(future)
                    try:
                        record = future.result()
                    except BrokenProcessPool:
                        record, pool = failed(config, "its process died"), pool_of_one()
                    except UsageError as error:
                        record = failed(config, str(error))
                    idle.append(pool)
                    done(config, record)
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _start_worker() -> None:
    """Readies a worker for one run at a time; no worker outlives its sweep."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source_revision()
    train_alone()

    def follow_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
