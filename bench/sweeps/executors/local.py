"""Runs configurations on this machine in parallel, in processes that share nothing but the store."""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from bench.config import Config
from bench.errors import CannotWrite, UsageError
from bench.records.source import source
from bench.records.store import Record, Store, failed_record
from bench.sweeps.groups import ONE_BY_ONE, GpuLost, cut, parts, train_first
from bench.sweeps.missing import Plan, is_final
from bench.sweeps.sharing import Claims
from bench.training.process import PAUSE, RECORDING, Terminated, asked_to_pause, pause, pausing, train_alone

PATIENCE = 0.2
"""Seconds until a sweep notices SIGTERM."""
RETRY = 10.0
"""Seconds until a sweep looks again at runs that others are training."""
CONTEXT = multiprocessing.get_context("spawn")


class Workers:
    """`number` processes that train one program at a time each, as a context; each starts when it is first needed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._stack = ExitStack()
        self.idle = [self.another() for _ in range(number)]

    def another(self) -> ProcessPoolExecutor:
        """A further process, for one that died."""
        return self._stack.enter_context(ProcessPoolExecutor(1, mp_context=CONTEXT, initializer=_start_worker))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


class Program(NamedTuple):
    """Runs of a plan that train together."""

    plan: Plan
    runs: list[Config]
    most: int | None
    """How many of them at most; None for as many as fit into GPU memory."""


def run_all(
    plans: Sequence[Plan],
    store: Store,
    scale: str,
    *,
    device: str,
    workers: Workers,
    population: int | None = 1,
    deadline: float,
    done: Callable[[Config, Record], None],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Trains the runs of `plans` in order on `workers` and calls `done` with each as it ends.

    The workers go on to the next plan as soon as they have nothing left to start in one. Each run is claimed before it
    is trained. A run that another sweep is training is waited for, and taken over if that sweep is gone. A run that has
    been recorded in the meantime, in its experiment or those that it reuses, is not trained again.

    `population` is the maximum number of runs trained as one program, None for as many as fit into GPU memory; `say` is
    called if that did not work. Past `deadline` (of `time.monotonic`), runs in progress are checkpointed and no new run
    starts; the same happens after SIGTERM, and then `Terminated` is raised. An interrupt or a second SIGTERM ends the
    workers immediately, and each loses its work since the last checkpoint; so does a record or checkpoint that cannot
    be written, with `CannotWrite`. A run that cannot run, or whose process dies, is recorded as failed and keeps its
    checkpoint.
    """
    for plan in plans:
        store.check_names(plan.experiment, plan.runs)
    queue = deque(Program(plan, runs, population) for plan in plans for runs in parts(plan.runs, population))
    with pausing(), Claims(store, say) as claims:
        try:
            _Training(store, scale, device, workers, deadline, done, say, claims, queue).until_done()
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()
            raise


@dataclass
class _Training:
    """The programs of a sweep: those in the queue, those that its workers train, and those that other sweeps train."""

    store: Store
    scale: str
    device: str
    workers: Workers
    deadline: float
    done: Callable[[Config, Record], None]
    say: Callable[[str], None]
    claims: Claims
    queue: deque[Program]
    running: dict[Future[tuple[list[Record], str]], tuple[Program, ProcessPoolExecutor]] = field(default_factory=dict)
    elsewhere: list[Program] = field(default_factory=list)
    again: float = 0.0
    """Time from which the runs of other sweeps are looked at again."""
    paused: bool = False
    """Whether the workers have been told to pause."""
    waits: bool = False
    """Whether the user has been told that runs of other sweeps are waited for."""

    def until_done(self) -> None:
        """Trains all programs, or raises `Terminated` after SIGTERM."""
        while True:
            self._look_again()
            while self.workers.idle and self._in_time and (program := self._next()):
                if (program := self._claimed(program)).runs:
                    self._start(program)
            if asked_to_pause() and not self.paused:
                self.paused = True
                for worker in multiprocessing.active_children():
                    worker.terminate()
            if self.running:
                for future in wait(self.running, timeout=PATIENCE, return_when=FIRST_COMPLETED).done:
                    self._collect(future)
            elif self.elsewhere and self._in_time:
                self._wait_for_others()
            else:
                break
        if asked_to_pause():
            raise Terminated

    @property
    def _in_time(self) -> bool:
        return time.monotonic() < self.deadline and not asked_to_pause()

    def _look_again(self) -> None:
        if self.elsewhere and time.monotonic() >= self.again:
            self.queue.extend(self.elsewhere)
            self.elsewhere.clear()
            self.again = time.monotonic() + RETRY

    def _next(self) -> Program | None:
        """Takes the first program off the queue of which no run is being trained, for whatever experiment."""
        busy = {config.digest for (_, runs, _), _ in self.running.values() for config in runs}
        free = (program for program in self.queue if busy.isdisjoint(config.digest for config in program.runs))
        if found := next(free, None):
            self.queue.remove(found)
        return found

    def _claimed(self, program: Program) -> Program:
        """The part of a program that this sweep is to train now."""
        taken = [config for config in program.runs if self.claims.take(config)]
        if others := [config for config in program.runs if config not in taken]:
            self.elsewhere.append(program._replace(runs=others))
        experiments = program.plan.experiments
        recorded = {c.digest: r for c in taken if (r := self.store.find(c, experiments)) and is_final(r)}
        for config in taken:
            if config.digest in recorded:
                self._end(config, recorded[config.digest])
        return program._replace(runs=[config for config in taken if config.digest not in recorded])

    def _start(self, program: Program) -> None:
        try:
            self._submit(self.workers.idle.pop(), program)
        except BrokenProcessPool:  # its process died after its last run
            self._submit(self.workers.another(), program)

    def _submit(self, pool: ProcessPoolExecutor, program: Program) -> None:
        plan, runs, most = program
        where = self.store, plan.experiment, self.scale, self.device
        future = pool.submit(train_first, runs, most, *where, self.deadline, self.workers.number)
        self.running[future] = program, pool

    def _collect(self, future: Future[tuple[list[Record], str]]) -> None:
        """Records the end of the first runs of a program; the others follow."""
        (plan, runs, most), pool = self.running.pop(future)
        try:
            records, said = future.result()
        except CannotWrite:
            raise
        except (Exception, SystemExit) as error:
            died = isinstance(error, BrokenProcessPool)
            if died and asked_to_pause():
                return
            if died or isinstance(error, GpuLost):
                pool.shutdown(wait=False)
                pool = self.workers.another()
            known = isinstance(error, GpuLost | UsageError)
            reason = "its process died" if died else str(error) if known else f"{type(error).__name__}: {error}"
            alone = most == 1 or len(runs) == 1
            records, said = ([self._failed(runs[0], plan, reason)], "") if alone else ([], ONE_BY_ONE.format(reason))
        self.workers.idle.append(pool)
        if said:
            self.say(said)
            most = max(1, len(records))
        rest = cut(runs[len(records) :], most)
        self.queue.extendleft(Program(plan, part, most) for part in reversed(rest))
        for config, record in zip(runs, records, strict=False):
            self._end(config, record)

    def _failed(self, config: Config, plan: Plan, reason: str) -> Record:
        record = failed_record(config, plan.experiment, self.scale, self.device, reason)
        self.store.write(record, self.store.path(plan.experiment, config))
        return record

    def _end(self, config: Config, record: Record) -> None:
        self.claims.release(config)
        self.done(config, record)

    def _wait_for_others(self) -> None:
        if not self.waits:
            self.waits, first = True, self.elsewhere[0].runs[0]
            count, holder = sum(len(part.runs) for part in self.elsewhere), self.claims.holder(first)
            self.say(f"waiting for {count} runs that other sweeps train, {first.slug} by {holder}")
        time.sleep(PATIENCE)


def _start_worker() -> None:
    """Prepares a worker for one run at a time; workers never outlive their sweep."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in PAUSE:
        signal.signal(number, pause)
    source()
    train_alone()

    def follow_parent() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        with RECORDING:
            os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
