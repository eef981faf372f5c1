"""Parallel runs, one per core, compared with the same runs one by one."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.config import UNMEASURED
from bench.records.store import Store
from bench.speed.base import Measurement, Row, alternate
from bench.sweeps.executors.local import Workers, run_all
from bench.sweeps.groups import run
from bench.sweeps.missing import Plan
from bench.sweeps.protocols import configure
from bench.training.process import cores

EPOCHS = 80
ROUNDS = 2


def sweep(epochs: int = EPOCHS, rounds: int = ROUNDS) -> Measurement:
    """Seconds of a sweep of two runs per core, including the start of its processes, over those of the runs one by one.

    The runs are MLPs on digits that take a quarter of a minute each. Each process trains with one thread.
    """
    base = replace(configure("mlp", "ldfa", "quick", rank="10", results=None), epochs=epochs, **UNMEASURED)
    processes = cores()
    configs = [replace(base, seed=seed) for seed in range(2 * processes)]

    def at_once() -> None:
        with empty_store() as store, Workers(processes) as workers:
            run_all(
                [Plan("speed", (), configs)],
                store,
                "quick",
                device="cpu",
                workers=workers,
                deadline=math.inf,
                done=lambda config, record: None,
            )

    def one_by_one() -> None:
        with empty_store() as store:
            for config in configs:
                run(config, store, "speed", "quick", "cpu")

    done = alternate({"sweep": at_once, "one by one": one_by_one}, rounds=rounds)
    return done.measurement(
        lambda seconds: seconds["sweep"] / seconds["one by one"], alone=False, runs=len(configs), at_once=processes
    )


@contextmanager
def empty_store() -> Iterator[Store]:
    """A store of its own for each round, since a sweep does not repeat a recorded run."""
    with tempfile.TemporaryDirectory() as folder:
        yield Store(Path(folder))


ROWS = [Row("sweep", "a sweep on all cores over the same runs one by one", sweep, 1.02)]
