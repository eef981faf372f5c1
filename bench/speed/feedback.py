"""Low-dimensional feedback compared with backpropagation: forward and backward pass, at one rank."""

from functools import partial
from typing import Any

from bench.speed.base import Measurement, Row, alternate
from bench.speed.networks import BATCH, RANK, Timed, of_protocol, settings, square
from bench.training.costs import flops_of

RULES = ("ldfa", "bp")


def squares(width: int, **sizes: int) -> Measurement:
    """Seconds of `ldfa` over those of `bp`."""
    return _compare({rule: square(width, rule, **sizes) for rule in RULES}, counted=False)


def mlp(**changes: Any) -> Measurement:
    """Seconds of `ldfa` over those of `bp`, over the same ratio of the counted FLOPs."""
    changes = {"batch_size": BATCH} | changes
    return _compare({rule: of_protocol(settings("mlp", rule, **changes)) for rule in RULES}, counted=True)


def _compare(trainees: dict[str, Timed], *, counted: bool) -> Measurement:
    flops = {rule: flops_of(trainee.backward) for rule, trainee in trainees.items()}
    expected = flops["ldfa"] / flops["bp"] if counted else 1.0
    rounds = alternate({rule: trainee.backward for rule, trainee in trainees.items()})
    return rounds.measurement(lambda seconds: seconds["ldfa"] / seconds["bp"] / expected, flops=flops)


LAYERS = f"eight Linear layers of width {{}}, batch {BATCH}: forward and backward of ldfa r = {RANK} over bp"
TARGETS = {256: (None, None), 512: (None, None), 1024: (0.72, 0.67), 2048: (0.72, 0.67)}
"""Target and limit by width; a third of bp's products is saved."""

ROWS = [
    *(
        Row(f"square-{width}", LAYERS.format(width), partial(squares, width), target, limit)
        for width, (target, limit) in TARGETS.items()
    ),
    Row("mlp", f"MLP, batch {BATCH}: the same, over the ratio of the counted FLOPs", mlp, 1.06, 1.0),
]
