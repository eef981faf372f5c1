"""Checks whether the code here reproduces the first losses of a record made elsewhere.

The first few steps of the run are repeated. Devices sum in different orders, and the resulting difference grows from
step to step, as Adam's first steps follow the sign of even the smallest gradients. Devices also draw different random
numbers: for a network with dropout, or a rule that draws, the losses are compared with the spread over several draws.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.config import Config
from bench.training.loop import train

STEPS = 3
"""Number of steps repeated. Later steps say more about rounding than about the code."""
TOLERANCES = {"float64": (1e-6, 1), "float32": (1e-4, 10), "tf32": (5e-4, 10), "bfloat16": (1e-2, 3)}
"""Relative tolerance at the first step, by precision, and the factor by which it grows per step.

Noise of 1e-5 on the inputs, typical of float32, moves the losses of an MLP, CNN or ViT by up to 3e-7, 3e-4 and 2e-3;
rounding the factors of all products to TF32 moves them by up to 6e-5, 3e-3 and 8e-3. Another seed moves the first loss
by 2e-3 or more.
"""
DRAWS = 5
SPREAD = 6.0
"""Largest allowed distance of a loss from the mean over draws, in standard deviations."""


def disagreement(config: Config, recorded: Sequence[float | None]) -> str:
    """What differs between a record's first losses (None where not finite) and those here; empty if they agree.

    Raises `UsageError` if the run cannot be repeated here, for example because its data are missing.
    """
    losses = [math.nan if loss is None else loss for loss in recorded]
    here = first_losses(config)
    if len(losses[:STEPS]) != len(here):
        return f"has the losses of {len(losses)} steps, expected: at least {len(here)}"
    if not (step := _first_apart(losses, here, config.precision)):
        return ""
    draws = np.array([here, *(first_losses(config, f"draw {n}") for n in range(1, DRAWS))])
    varied = np.ptp(draws, axis=0) > 0
    if not varied.any():
        return f"loss of step {step} is {losses[step - 1]:.7g}, here {here[step - 1]:.7g}"
    deviation = math.sqrt(draws.var(axis=0, ddof=1)[varied].mean())
    if step := _first_apart(losses, draws.mean(axis=0), config.precision, SPREAD * deviation * varied):
        low, high = draws[:, step - 1].min(), draws[:, step - 1].max()
        return f"loss of step {step} is {losses[step - 1]:.7g}, here {low:.7g} to {high:.7g} over {DRAWS} draws"
    return ""


def first_losses(config: Config, draws: str = "layers") -> list[float]:
    """The losses of the first `STEPS` steps of a run; `draws` as in `train`."""
    config = replace(config, measure_every=0)
    return train(config, steps=STEPS, draws=draws).first_losses


def _first_apart(
    recorded: Sequence[float], here: Sequence[float] | np.ndarray, precision: str, margin: np.ndarray | float = 0.0
) -> int:
    """The first step, from 1, whose losses differ by more than the tolerance and `margin`; 0 if none does."""
    tolerance, growth = TOLERANCES[precision]
    relative = tolerance * growth ** np.arange(len(here))
    close = np.isclose(recorded[: len(here)], here, rtol=relative, atol=margin, equal_nan=True)
    return 0 if close.all() else int(close.argmin()) + 1
