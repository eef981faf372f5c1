"""The optimisers and their learning-rate schedules."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from bench.config import Config
from bench.training.learner import Trainee

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, amsgrad=True, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "rmsprop": partial(torch.optim.RMSprop, foreach=True),
    "sgd": partial(torch.optim.SGD, foreach=True),
}


def optimiser_of(config: Config, trainee: Trainee) -> torch.optim.Optimizer:
    """One optimiser for weights and feedback, with a separate feedback rate; no gradient, no step and no decay."""
    groups: list[dict[str, Any]] = [{"params": trainee.weights(), "lr": config.lr}]
    if feedback := trainee.feedback():
        groups.append({"params": feedback, "lr": config.lr * config.feedback_rate})
        if config.feedback_decay is not None:
            groups[1]["weight_decay"] = config.feedback_decay
    optimiser = OPTIMISERS[config.optimiser](groups, weight_decay=config.weight_decay)
    suit_device(optimiser)
    return optimiser


def suit_device(optimiser: torch.optim.Optimizer) -> None:
    """Lets CUDA graphs repeat the steps of an optimiser on a GPU, also if its state comes from a run on the CPU."""
    for group in optimiser.param_groups:
        if "capturable" not in group:
            continue
        group["capturable"] = group["params"][0].is_cuda
        for parameter in group["params"]:
            if "step" in (state := optimiser.state.get(parameter, {})):
                state["step"] = state["step"].to(parameter.device)


def scheduler_of(config: Config, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Learning rates per epoch: multiplied by `gamma` after each, or a linear warm-up and then half a cosine."""
    if config.schedule == "exponential":
        return torch.optim.lr_scheduler.ExponentialLR(optimiser, config.gamma)

    def cosine(epoch: int) -> float:
        if epoch < config.warmup:
            return (epoch + 1) / (config.warmup + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (epoch - config.warmup) / max(1, config.epochs - config.warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, cosine)
