"""Runs many configurations, side by side, in processes that share nothing but the store."""

import fcntl
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config import Config
from bench.errors import UsageError
from bench.records import Record, Store, failed_record, record_of, writable

if TYPE_CHECKING:
    from bench.data.base import Data


def run(config: Config, store: Store, experiment: str, scale: str, device: str, deadline: float = math.inf) -> Record:
    """Trains one network and writes its record; resumes from its checkpoint. A paused run gives a record unwritten."""
    from bench.train import train

    checkpoint = store.checkpoint(config)
    path = store.path(experiment, config)
    try:
        outcome = train(config, device=device, checkpoint=checkpoint, deadline=deadline, loader=_load)
    except UsageError:
        raise
    except Exception as error:
        record = failed_record(config, experiment, scale, device, f"{type(error).__name__}: {error}")
    else:
        record = record_of(config, experiment, scale, device, outcome)
    if record["status"] != "paused":
        store.write(record, path)
        checkpoint.unlink(missing_ok=True)
    return record


def _load(name: str, seed: int) -> "Data":
    from bench.data import is_drawn

    return _load_once(name, seed if is_drawn(name) else 0)


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

    Past `deadline` (of `time.monotonic`) runs in progress are checkpointed and none starts.
    """
    context = multiprocessing.get_context("spawn")
    queue = iter(configs)
    running: dict[Future[Record], Config] = {}
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        while True:
            while len(running) < workers and time.monotonic() < deadline and (config := next(queue, None)):
                running[pool.submit(run, config, store, experiment, scale, device, deadline)] = config
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done(running.pop(future), future.result())


def _start_worker() -> None:
    """One thread a run, so that a record does not depend on how many run at once; no worker outlives its sweep."""
    import torch

    torch.set_num_threads(1)

    def follow_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
