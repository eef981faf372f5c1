"""A population compared with its members one by one."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bench.config import Config
from bench.speed.base import Device, Measurement, Row, Side, alternate
from bench.speed.networks import images, settings
from bench.training.batches import Batches
from bench.training.learner import build, placed, step
from bench.training.optimisers import optimiser_of
from bench.training.population import Population

BATCH = 32
SIZES = (1, 4, 16, 64)
CPU_SIZES = (1, 2, 4, 8)


def population(device: Device = "cuda", sizes: Sequence[int] = SIZES, **changes: Any) -> Measurement:
    """Seconds per step of the largest population over those of as many single steps, MLP under `ldfa` at batch 32."""
    config = settings("mlp", "ldfa", "gpu", **({"batch_size": BATCH} | changes))
    sides = {f"{members} at once": _side(config, members, device) for members in sizes}
    sides["alone"] = _side(config, 1, device)
    most = max(sizes)
    return alternate(sides, device).measurement(
        lambda seconds: seconds[f"{most} at once"] / (most * seconds["alone"]), sizes=list(sizes)
    )


def _side(config: Config, members: int, device: Device) -> Side:
    data = placed(images(config.batch_size), config, device)
    learners = [build(replace(config, seed=seed), data) for seed in range(members)]
    for learner in learners:
        learner.network.to(device).train()
    generators = [torch.Generator().manual_seed(seed) for seed in range(members)]
    inputs, targets = next(Batches(data.train, data, config).shuffled(*generators))
    trainee = Population(learners) if members > 1 else learners[0]
    return partial(step, trainee, optimiser_of(config, trainee), inputs, targets, config.clip_gradients)


ROWS = [
    Row(
        "population",
        f"MLP at batch {BATCH}: a step of {max(SIZES)} networks at once over as many of one",
        population,
        1 / 6,
        device="cuda",
    ),
    Row(
        "population-cpu",
        f"MLP at batch {BATCH}: a step of {max(CPU_SIZES)} networks at once over as many of one, on the CPU",
        partial(population, "cpu", CPU_SIZES),
    ),
]
