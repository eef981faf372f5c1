"""The interface of a row, and how its sides are timed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Literal

import numpy as np
import torch

from bench.training import graphs
from bench.training.graphs import Graph, own_stream

ROUNDS = 101
"""Maximum number of rounds per row."""
LEAST_ROUNDS = 9
SECONDS = 12.0
"""Seconds after which a row ends, if it has the minimum number of rounds."""
WARM_UP = graphs.WARM_UP + 1
"""Warm-up rounds, not counted; in the last one a GPU records its graphs."""

Device = Literal["cpu", "cuda"]
Side = Callable[[], object]
Times = Mapping[str, float]
"""Seconds of each side in one round."""


@dataclass
class Measurement:
    """The result of a row: the median over its rounds, their quartiles, and supporting numbers.

    cpu_value: the same for the CPU time of the process, which other processes disturb less; None on a GPU and if
    several processes work. numbers: median seconds of each side, and FLOPs and bytes where they matter.
    """

    value: float
    quartiles: tuple[float, float]
    rounds: int
    cpu_value: float | None = None
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One row of `bench speed`. `limit` is the best that the arithmetic allows; None if there is no such number."""

    name: str
    what: str
    measure: Callable[[], Measurement]
    target: float | None = None
    limit: float | None = None
    unit: Literal["", "s"] = ""
    """Empty for ratios."""
    device: Device = "cpu"
    package: str | None = None
    """An additional package that must be installed."""


@dataclass
class Rounds:
    """Seconds of each side: wall-clock time (on a GPU, from its events) and CPU time of the process."""

    wall: list[Times] = field(default_factory=list)
    cpu: list[Times] = field(default_factory=list)

    def seconds(self) -> dict[str, float]:
        """The median of each side."""
        return {name: median(times[name] for times in self.wall) for name in self.wall[0]}

    def measurement(self, ratio: Callable[[Times], float], *, alone: bool = True, **numbers: Any) -> Measurement:
        """The median of `ratio` over the rounds; `alone` says that no other process worked for a side."""
        values = [ratio(times) for times in self.wall]
        low, high = quartiles(values)
        cpu = median(map(ratio, self.cpu)) if self.cpu and alone else None
        return Measurement(median(values), (low, high), len(values), cpu, {"seconds": self.seconds(), **numbers})


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile."""
    low, high = np.quantile(values, [0.25, 0.75]).tolist()
    return low, high


def alternate(sides: Mapping[str, Side], device: Device = "cpu", *, rounds: int | None = None) -> Rounds:
    """Runs the sides alternately, after a warm-up, until there are enough rounds; with `rounds` exactly that many,
    without warm-up. A GPU repeats them as CUDA graphs, as it does in training.
    """
    if device == "cuda":
        with own_stream(device):
            return _alternate({name: partial(Graph().run, side) for name, side in sides.items()}, _on_gpu, rounds)
    return _alternate(sides, _on_cpu, rounds)


def _alternate(sides: Mapping[str, Side], timed: Callable[..., None], rounds: int | None) -> Rounds:
    done = Rounds()
    if rounds is None:
        for _ in range(WARM_UP):
            for side in sides.values():
                side()
    least, most = (LEAST_ROUNDS, ROUNDS) if rounds is None else (rounds, rounds)
    started = time.perf_counter()
    while len(done.wall) < least or (len(done.wall) < most and time.perf_counter() - started < SECONDS):
        timed(sides, done)
    return done


def _on_cpu(sides: Mapping[str, Side], rounds: Rounds) -> None:
    wall, cpu = {}, {}
    for name, side in sides.items():
        start, start_cpu = time.perf_counter(), time.process_time()
        side()
        wall[name], cpu[name] = time.perf_counter() - start, time.process_time() - start_cpu
    rounds.wall.append(wall)
    rounds.cpu.append(cpu)


def _on_gpu(sides: Mapping[str, Side], rounds: Rounds) -> None:
    events = {name: [torch.cuda.Event(enable_timing=True) for _ in range(2)] for name in sides}
    for name, side in sides.items():
        events[name][0].record()
        side()
        events[name][1].record()
    torch.cuda.synchronize()
    rounds.wall.append({name: start.elapsed_time(end) / 1e3 for name, (start, end) in events.items()})
