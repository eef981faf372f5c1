"""Estimates how long runs will take from the recorded runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from bench.config import Config, parse
from bench.errors import UsageError
from bench.records.store import Store, read_all
from bench.sweeps.experiments import experiment
from bench.training.length import steps

TIMED_STEPS = 10


@dataclass(frozen=True)
class Timing:
    """The time per step of a recorded run."""

    model_options: dict[str, Any]
    rule: str
    scale: str
    seconds: float


class Timings:
    """Timings of the recorded runs of a model; the median is computed once for all configurations that are alike."""

    def __init__(self, found: Sequence[Timing]) -> None:
        self.found = found
        self._medians: dict[tuple[str, str, str], float | None] = {}

    def median(self, config: Config, scale: str) -> float | None:
        """Seconds per step, see `estimate`; None without runs."""
        alike = scale, config.rule, repr(config.model_options)
        if alike not in self._medians:
            self._medians[alike] = self._median(config, scale)
        return self._medians[alike]

    def _median(self, config: Config, scale: str) -> float | None:
        alike = [
            ((timing.scale == scale, timing.model_options == config.model_options, timing.rule == config.rule), timing)
            for timing in self.found
        ]
        nearest = max((likeness for likeness, _ in alike), default=None)
        seconds = [timing.seconds for likeness, timing in alike if likeness == nearest]
        return median(seconds) if seconds else None


def timings(results: Path, device: str, model: str) -> Timings:
    """Timings from all valid records of a model at all scales made on this kind of device (`cpu` or `cuda`)."""
    found = []
    for folder in sorted(results.glob("*/records/*")):
        if _model_of(folder.name) not in (model, None):
            continue
        for path, record in read_all(Store(folder.parents[1]).paths(folder.name), {}):
            config = parse(Config, record["config"], str(path))
            if config.model == model and record["status"] == "ok" and record["device"]["type"] == device:
                seconds = record["seconds"] / steps(config)
                found.append(Timing(config.model_options, config.rule, record["scale"], seconds))
    return Timings(found)


def _model_of(name: str) -> str | None:
    """The model of an experiment; None if there is no such experiment, as for single runs and trials."""
    try:
        return experiment(name).model
    except UsageError:
        return None


def estimate(config: Config, scale: str, timings: Timings) -> float | None:
    """Seconds that a run will take: the median time per step of the runs most like it, times its number of steps.

    `timings` are those of its model; runs of the same scale, then the same model options and rule, are preferred. None
    if the model has no run.
    """
    seconds = timings.median(config, scale)
    return seconds * steps(config) if seconds is not None else None


def measured(config: Config, device: str) -> float:
    """Seconds that a run will take here, from timing its first steps."""
    from bench.training.loop import train

    def timed(n: int) -> float:
        started = monotonic()
        train(replace(config, measure_every=0), device=device, steps=n)
        return monotonic() - started

    timed(1)  # warms up
    one, all_ = min(timed(1), timed(1)), timed(1 + TIMED_STEPS)
    step = (all_ - one) / TIMED_STEPS if all_ > one else all_ / (1 + TIMED_STEPS)
    return step * steps(config)
