"""The time that a run spends outside its steps."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import bench.sweeps.groups
import bench.training.loop
from bench.config import Config
from bench.data.base import Data
from bench.records.store import Store
from bench.speed.base import Measurement, Rounds, Row
from bench.speed.networks import images, settings

EXAMPLES = 12_800
MINUTE = 60.0
RUNS = 3


def share(seconds: float = MINUTE, examples: int = EXAMPLES, runs: int = RUNS) -> Measurement:
    """The share of a run that is not spent in steps: data and augmentation, logging, the test and the record.

    The run is the MLP under `ldfa` with its protocol, on random images, for as many epochs as take `seconds`.
    """
    data, config = images(examples), settings("mlp", "ldfa", epochs=1)
    rounds = Rounds()
    _run(config, data, rounds)
    config = replace(config, epochs=max(1, round(seconds / rounds.wall[0]["run"])))
    rounds = Rounds()
    for _ in range(runs):
        _run(config, data, rounds)
    return rounds.measurement(lambda times: 1 - times["steps"] / times["run"], epochs=config.epochs)


def _run(config: Config, data: Data, rounds: Rounds) -> None:
    """Trains and records one network, and adds the total seconds and those of its steps to `rounds`."""
    wall, cpu = {"steps": 0.0}, {"steps": 0.0}
    clocks = ((time.perf_counter, wall), (time.process_time, cpu))

    def timed(*arguments: Any, step: Callable[..., Any] = bench.training.loop.step) -> Any:
        starts = [clock() for clock, _ in clocks]
        given = step(*arguments)
        for start, (clock, times) in zip(starts, clocks, strict=True):
            times["steps"] += clock() - start
        return given

    loading = patch("bench.training.learner.load_once", lambda name, seed: data)
    unchecked = patch("bench.sweeps.groups.check_new", lambda record: None)  # the images are of no dataset
    with TemporaryDirectory() as folder, patch("bench.training.loop.step", timed), loading, unchecked:
        starts = [clock() for clock, _ in clocks]
        bench.sweeps.groups.run(config, Store(Path(folder)), "speed", "cpu", "cpu")
        for start, (clock, times) in zip(starts, clocks, strict=True):
            times["run"] = clock() - start
    rounds.wall.append(wall)
    rounds.cpu.append(cpu)


ROWS = [Row("outside", "MLP, a one-minute run: share of the time outside the steps of ldfa", share, 0.03, 0.0)]
