"""The whole step of `ldfa`, with the optimiser, compared with the least time that its arithmetic and memory take."""

from functools import partial
from typing import Any

import torch
from torch import nn

from bench.speed.base import Measurement, Row, Side, Times, alternate
from bench.speed.networks import BATCH, RANK, Timed, of_protocol, settings, square
from bench.training.costs import flops_of

ADAM_READS, ADAM_WRITES, ADAM_HOLDS = 5, 4, 5
"""Numbers per parameter, for the amsgrad variant: weight, gradient, mean, square and largest square. All are read, and
all but the gradient are written.
"""


def over_floor(trainee: Timed) -> Measurement:
    """Seconds of a step over its floor.

    The floor is FLOPs / rate + bytes / bandwidth: the counted FLOPs of the step, and the bytes that the optimiser reads
    and writes. Both speeds are measured in each round: the rate on the products of the forward pass alone, the
    bandwidth on a += b in tensors that take as much memory as weights, gradients and moments.
    """
    products, stream = products_of(trainee), Stream(trainee.parameters() * ADAM_HOLDS // 2)
    flops, flops_products = flops_of(trainee.step), flops_of(products)
    moved = 4 * (ADAM_READS + ADAM_WRITES) * trainee.parameters()

    def ratio(seconds: Times) -> float:
        rate, bandwidth = flops_products / seconds["products"], stream.bytes / seconds["stream"]
        return seconds["step"] / floor(flops, rate, moved, bandwidth)

    rounds = alternate({"step": trainee.step, "products": products, "stream": stream})
    found = rounds.seconds()
    return rounds.measurement(
        ratio,
        flops={"step": flops, "products": flops_products},
        bytes={"step": moved, "stream": stream.bytes},
        flops_per_second=flops_products / found["products"],
        bytes_per_second=stream.bytes / found["stream"],
    )


def floor(flops: float, rate: float, moved: float, bandwidth: float) -> float:
    """Seconds for `flops` at `rate` per second, and then for `moved` bytes at `bandwidth` per second."""
    return flops / rate + moved / bandwidth


class Stream:
    """a += b over n float32: three times 4n bytes are read or written."""

    def __init__(self, n: int) -> None:
        self.a, self.b = torch.zeros(n), torch.ones(n)
        self.bytes = 3 * 4 * n

    def __call__(self) -> None:
        self.a.add_(self.b)


def products_of(trainee: Timed) -> Side:
    """The products X W' of the network's Linear layers for the trainee's batch, on separate tensors."""
    layers = [layer for layer in trainee.network.modules() if isinstance(layer, nn.Linear)]
    rows = len(trainee.inputs)
    operands = [(torch.randn(rows, layer.in_features), torch.randn(layer.weight.shape).T) for layer in layers]
    results = [torch.empty(rows, layer.out_features) for layer in layers]

    def multiply() -> None:
        for (x, W), y in zip(operands, results, strict=True):
            torch.mm(x, W, out=y)

    return multiply


def squares(width: int, **sizes: int) -> Measurement:
    """For Linear layers of one width."""
    return over_floor(square(width, "ldfa", **sizes))


def mlp(**changes: Any) -> Measurement:
    """For the MLP."""
    return over_floor(of_protocol(settings("mlp", "ldfa", **({"batch_size": BATCH} | changes))))


WHAT = f"batch {BATCH}: a step of ldfa r = {RANK} with Adam, over its floor by FLOPs and bytes"
ROWS = [
    *(
        Row(f"square-{width}-step", f"eight Linear layers of width {width}, {WHAT}", partial(squares, width), 1.1, 1.0)
        for width in (1024, 2048)
    ),
    Row("mlp-step", f"MLP, {WHAT}", mlp, 1.1, 1.0),
]
