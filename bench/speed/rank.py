"""The cost of feedback as its rank grows."""

import numpy as np
import torch
from torch import Generator, nn

from bench.layers import Linear
from bench.rules import RULES
from bench.rules.base import Signals
from bench.speed.base import Measurement, Row, Side, Times, alternate
from bench.speed.networks import BATCH
from bench.training.costs import flops_of

RANKS = (4, 8, 16, 32, 64, 128, 256)


def over_rank(width: int = 1024, ranks: tuple[int, ...] = RANKS, batch: int = BATCH) -> Measurement:
    """Seconds per additional FLOP of feedback, over seconds per FLOP of one full-rank product.

    Feedback is all work of the rule in a layer's backward pass: the error sent down and the gradients of P and Q. The
    first number is the slope of the least-squares line through its seconds over its counted FLOPs.
    """
    feedback = {f"r = {rank}": feedback_of(width, rank, batch) for rank in ranks}
    g, W = torch.randn(batch, width), torch.randn(width, width)
    sides = feedback | {"full product": lambda: g @ W}
    flops = {name: flops_of(side) for name, side in sides.items()}

    def ratio(seconds: Times) -> float:
        return slope([flops[name] for name in feedback], [seconds[name] for name in feedback]) / (
            seconds["full product"] / flops["full product"]
        )

    return alternate(sides).measurement(ratio, flops=flops, ranks=list(ranks))


def slope(x: list[float], y: list[float]) -> float:
    """Slope of the least-squares line."""
    return float(np.polynomial.Polynomial.fit(x, y, 1).convert().coef[1])


def feedback_of(width: int, rank: int, batch: int) -> Side:
    """The part of `ldfa` in the backward pass of one hidden layer."""
    layer = Linear.from_plain(
        nn.Linear(width, width), RULES.get("ldfa")(), rank, Generator().manual_seed(0), None, None
    )
    x, g = torch.randn(batch, width), torch.randn(batch, width) / batch

    @torch.no_grad()
    def run() -> None:
        layer.rule.backward(Signals(layer.operator, layer.weight, x, g), dict(layer.feedback))

    return run


ROWS = [
    Row(
        "rank",
        f"layer of width 1024, batch {BATCH}: seconds of feedback over its FLOPs, r = {RANKS[0]} to {RANKS[-1]}, "
        "against a product of full rank",
        over_rank,
        1.3,
        1.0,
    )
]
