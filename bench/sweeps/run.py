"""Runs many configurations, side by side, in processes that share nothing but the store."""

import fcntl
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
from pathlib import Path

from bench.config import Config
from bench.errors import CannotWrite, UsageError
from bench.files import clear_leftovers
from bench.records.source import source
from bench.records.store import Record, Store, failed_record, writable
from bench.sweeps.groups import ONE_BY_ONE, GpuLost, cut, parts, train_first
from bench.training.process import Terminated, asked_to_pause, pause, pausing, train_alone

PATIENCE = 0.2
"""Seconds after which a sweep hears SIGTERM."""
CONTEXT = multiprocessing.get_context("spawn")


def missing(configs: Sequence[Config], store: Store, experiments: Sequence[str]) -> list[Config]:
    """Those of `configs` that are to be run: none of `experiments` has a valid record, or the run failed."""

    def recorded(config: Config) -> bool:
        record = store.find(config, experiments)
        return record is not None and record["status"] != "failed"

    return [config for config in configs if not recorded(config)]


def check(configs: Sequence[Config]) -> None:
    """Builds one network a setting. Raises `UsageError` for a setting that cannot run, before anything is written."""
    from bench.training.augment import augmentation
    from bench.training.learner import prepare

    alike = {replace(config, seed=0, lr=0.0, weight_decay=0.0, feedback_rate=0.0).digest: config for config in configs}
    for config in alike.values():
        prepare(config, "cpu")
        for spec in config.augment:
            augmentation(spec)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds a results folder for one sweep, and clears what killed writers have left in it, before and after.

    Raises `UsageError` where it cannot be written or another sweep has it.
    """
    writable(folder)
    with ExitStack() as stack:
        try:
            file = stack.enter_context((folder / ".lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another sweep is running on {folder}: wait for it, or stop it") from None
        except OSError as error:
            raise UsageError(
                f"{folder}: cannot be locked ({error.strerror}); expected: a file system that can"
            ) from None
        clear_leftovers(folder)
        yield
        clear_leftovers(folder)


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
    checkpointed and none starts; after SIGTERM likewise, and then `Terminated` is raised. An interrupt, or a second
    SIGTERM, ends the workers at once, and each loses what it did since its last checkpoint; so does a record or a
    checkpoint that cannot be written, with `CannotWrite`. A run that cannot run, or whose process dies, is recorded as
    failed and keeps its checkpoint.
    """
    store.check_names(experiment, configs)
    queue = deque((program, population) for program in parts(configs, population))
    running: dict[Future[tuple[list[Record], str]], tuple[list[Config], int | None, ProcessPoolExecutor]] = {}
    told = False
    with ExitStack() as stack:
        stack.enter_context(pausing())

        def pool_of_one() -> ProcessPoolExecutor:
            return stack.enter_context(ProcessPoolExecutor(1, mp_context=CONTEXT, initializer=_start_worker))

        def failed(config: Config, reason: str) -> Record:
            record = failed_record(config, experiment, scale, device, reason)
            store.write(record, store.path(experiment, config))
            return record

        def start(pool: ProcessPoolExecutor, program: list[Config], most: int | None) -> None:
            job = pool.submit(train_first, program, most, store, experiment, scale, device, deadline, workers)
            running[job] = program, most, pool

        idle = [pool_of_one() for _ in range(workers)]
        try:
            while True:
                while idle and queue and time.monotonic() < deadline and not asked_to_pause():
                    pool, (program, most) = idle.pop(), queue.popleft()
                    try:
                        start(pool, program, most)
                    except BrokenProcessPool:  # its process died after its last run
                        start(pool_of_one(), program, most)
                if asked_to_pause() and not told:
                    told = True
                    for worker in multiprocessing.active_children():
                        worker.terminate()
                if not running:
                    break
                for future in wait(running, timeout=PATIENCE, return_when=FIRST_COMPLETED).done:
                    program, most, pool = running.pop(future)
                    try:
                        records, said = future.result()
                    except CannotWrite:
                        raise
                    except (BrokenProcessPool, GpuLost, UsageError) as error:
                        died = isinstance(error, BrokenProcessPool)
                        if died and asked_to_pause():
                            continue
                        if not isinstance(error, UsageError):
                            pool.shutdown(wait=False)
                            pool = pool_of_one()
                        reason = "its process died" if died else str(error)
                        alone = most == 1 or len(program) == 1
                        records, said = ([failed(program[0], reason)], "") if alone else ([], ONE_BY_ONE.format(reason))
                    idle.append(pool)
                    if said:
                        say(said)
                        most = max(1, len(records))
                    rest = program[len(records) :]
                    queue.extendleft((part, most) for part in reversed(cut(rest, most)))
                    for config, record in zip(program, records, strict=False):
                        done(config, record)
            if asked_to_pause():
                raise Terminated
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.kill()
            raise


def _start_worker() -> None:
    """Readies a worker for one run at a time; no worker outlives its sweep."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pause)
    source()
    train_alone()

    def follow_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
