"""Estimates how long runs take on a GPU, without one: what their steps launch, compute and move, by its data sheet.

A step is counted on tensors without content (PyTorch's `meta` device), operation by operation. On the GPU an operation
takes the time of its FLOPs or of its bytes, whichever is longer (the roofline of Williams, Waterman and Patterson
2009). A GPU works for one process at a time, and launches whole steps (`bench.training.graphs`), so the host's time
does not count. Not included are measurements of the layers, reading data, and starting processes.

On an H200 the 25 runs of the MLP at scale `paper` that claims read, five at a time in five processes, took 415 s with
all that is not included; the estimate is 384 s.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from bench.config import Config
from bench.data import DATASETS, load_once, parse_name, sizes
from bench.data.base import Data, Split
from bench.errors import unknown
from bench.sweeps.groups import MEMORY_SHARE, cut, programs
from bench.training.batches import Batches
from bench.training.costs import Operations
from bench.training.learner import Learner, build, placed
from bench.training.length import examples, steps
from bench.training.loop import GPU_TEST_BATCH

SHORTEST = 2e-6
"""Minimum GPU seconds per operation."""
FLOPS_SHARE, BYTES_SHARE = 0.5, 0.7
"""Share of the data sheet's peaks that matrix products and memory reach."""
STATE = {"adam": 3, "adamw": 2, "rmsprop": 1, "sgd": 0}
"""Numbers that an optimiser keeps per parameter."""
IMAGE = (3, 32, 32)
"""Shape of images in the datasets that are read from files."""


@dataclass(frozen=True)
class Gpu:
    """Figures of a data sheet, dense, without sparsity."""

    name: str
    flops: dict[str, float]
    """FLOPs per second, by precision."""
    bandwidth: float
    """Bytes per second."""
    memory: float
    """Memory in bytes."""


GPUS = {
    "a100": Gpu(
        "NVIDIA A100 SXM 80 GB",
        {"float64": 19.5e12, "float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12},
        2.0e12,
        80e9,
    ),
    "h100": Gpu(
        "NVIDIA H100 SXM 80 GB",
        {"float64": 67e12, "float32": 67e12, "tf32": 494e12, "bfloat16": 989e12},
        3.35e12,
        80e9,
    ),
    "h200": Gpu(
        "NVIDIA H200 SXM 141 GB",
        {"float64": 67e12, "float32": 67e12, "tf32": 494e12, "bfloat16": 989e12},
        4.8e12,
        141e9,
    ),
}


def gpu_called(name: str) -> Gpu:
    """The GPU called `name`. Raises `UsageError` for a GPU without a data sheet here."""
    if name not in GPUS:
        raise unknown("GPU", name, GPUS)
    return GPUS[name]


class Work(NamedTuple):
    """The operations of a pass of one network, one entry each."""

    flops: np.ndarray
    bytes: np.ndarray
    """Bytes read and written."""
    written: float

    def seconds(self, members: float, gpu: Gpu, precision: str) -> float:
        """Seconds on a GPU, when `members` of a population make the pass together, or one on so many batches."""
        products = members * self.flops / (FLOPS_SHARE * gpu.flops[precision])
        moves = members * self.bytes / (BYTES_SHARE * gpu.bandwidth) * (0.5 if precision == "bfloat16" else 1.0)
        return float(np.maximum(SHORTEST, np.maximum(products, moves)).sum())


@dataclass(frozen=True)
class Cost:
    """The total cost of runs on a GPU."""

    runs: int
    launches: float
    flops: float
    bytes: float
    seconds: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.runs + other.runs,
            self.launches + other.launches,
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.seconds + other.seconds,
        )

    def times(self, factor: float) -> "Cost":
        """The cost of this many times the runs."""
        return Cost(
            round(factor * self.runs),
            factor * self.launches,
            factor * self.flops,
            factor * self.bytes,
            factor * self.seconds,
        )


NOTHING = Cost(0, 0.0, 0.0, 0.0, 0.0)


def cost(configs: Sequence[Config], gpu: Gpu, workers: int, population: int | None = None) -> Cost:
    """The cost of runs trained by `workers` processes, in programs as in a sweep."""
    parts: list[Cost] = []
    known: dict[str, _Passes] = {}
    for program in programs(configs, _learner):
        largest = replace(max(program, key=_rank).without_numbers, feedback_rate=1.0)
        if largest.digest not in known:
            known[largest.digest] = _passes(largest)
        passes = known[largest.digest]
        room = max(1, int(MEMORY_SHARE * gpu.memory / workers / passes.memory))
        parts += [passes.cost(len(part), gpu) for part in cut(program, min(population or room, room))]
    return sum(parts, NOTHING)


@dataclass(frozen=True)
class _Passes:
    """The passes that a run is made of."""

    config: Config
    training: Work
    test: Work
    memory: float
    """Bytes needed by one member of a population."""

    def cost(self, members: int, gpu: Gpu) -> Cost:
        """The cost of a program of this many runs."""
        config = self.config
        batch = config.batch_size or examples(config)
        tested = max(batch, GPU_TEST_BATCH)
        judged = math.ceil(sizes(config.dataset).test / tested)
        tests = judged * (1 + (config.epochs - 1) // config.test_every if config.test_every else 1)
        passes = [(steps(config), members, self.training), (tests, members * tested / batch, self.test)]
        return Cost(
            members,
            sum(number * len(work.flops) for number, _, work in passes),
            sum(number * together * float(work.flops.sum()) for number, together, work in passes),
            sum(number * together * float(work.bytes.sum()) for number, together, work in passes),
            sum(number * work.seconds(together, gpu, config.precision) for number, together, work in passes),
        )


def _passes(config: Config) -> _Passes:
    """The passes of one run, counted."""
    counted = replace(config, precision="float64" if config.precision == "float64" else "float32")
    learner, data = copy.deepcopy(_learner(counted)), _data(counted)
    batches = Batches(data.train, data, counted)
    with _Operations() as batch:
        next(batches.shuffled(Generator().manual_seed(0)))
    inputs, targets = (tensor.to("meta") for tensor in next(batches.in_order()))
    learner.network.to("meta").train()
    parameters = learner.weights() + learner.feedback()
    with _Operations() as gradients:
        learner.gradients(torch.optim.SGD(parameters), inputs, targets)
    with _Operations() as test, torch.no_grad():
        learner.network.eval()
        learner.loss(inputs, targets)
    size = sum(map(_bytes, parameters))
    state = STATE[config.optimiser]
    training = _joined(batch.work(), gradients.work(), Work(np.array([0.0]), np.array([(3 + 2 * state) * size]), 0.0))
    memory = (2 + state) * size + gradients.work().written
    return _Passes(config, training, test.work(), memory)


def _joined(*works: Work) -> Work:
    flops, moved, written = zip(*works, strict=True)
    return Work(np.concatenate(flops), np.concatenate(moved), sum(written))


def _rank(config: Config) -> float:
    """For comparison within a program: its tensors are as large as those of the largest rank."""
    try:
        return float(Fraction(config.rank or "0"))
    except ValueError:
        return math.inf


def _learner(config: Config) -> Learner:
    """The learner of a run, on data of the right shape, without reading files."""
    return build(config, placed(_data(config), replace(config, split="test"), "cpu"))


def _data(config: Config) -> Data:
    """The data of a program, or blank images of the same shape, enough for two batches."""
    dataset = DATASETS.get(parse_name(config.dataset)[0])
    if not dataset.in_files:
        return load_once(config.dataset, config.seed)
    size = config.batch_size + 1
    split = Split(torch.zeros(size, *IMAGE, dtype=torch.uint8), torch.zeros(size, dtype=torch.int64))
    return Data(config.dataset, split, split, sizes(config.dataset).outputs, {})


class _Operations(Operations):
    """Counts the operations that run on a GPU; views of a tensor do not."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[float, float, float]] = []

    def report(self, flops: int, read: list[Tensor], given: list[Tensor], is_view: bool) -> None:
        if not is_view:  # and keeps no tensor: a gradient that nothing else holds is not copied
            written = sum(map(_bytes, given))
            self.done.append((flops, sum(map(_bytes, read)) + written, written))

    def work(self) -> Work:
        flops, moved, written = np.array(self.done, dtype=float).T
        return Work(flops, moved, float(written.sum()))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
