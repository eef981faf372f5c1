"""A training step at each rank over one of `bp`, on the networks whose accuracy and FLOPs claim E1 compares."""

from functools import partial

from bench.config import Config
from bench.speed.base import Device, Measurement, Row, alternate
from bench.speed.networks import of_protocol
from bench.sweeps.experiments import alternative, experiment
from bench.training.costs import flops_of


def steps(model: str, scale: str, shown: str, device: Device = "cpu") -> Measurement:
    """Seconds of a step of the setting `shown` over one of `bp`, of all settings of the network's ranks at a scale."""
    configs = experiment(f"{model}-rank").configs(scale, alternative(0))
    sides = {side(config): of_protocol(config, device).step for config in configs if config.seed == 0}
    flops = {name: flops_of(step) for name, step in sides.items()}
    rounds = alternate(sides, device)
    return rounds.measurement(lambda seconds: seconds[shown] / seconds["bp"], flops=flops, model=model, scale=scale)


def side(config: Config) -> str:
    """The name of a configuration's side: its rule, and its rank if the rule has one."""
    return f"{config.rule} r = {config.rank}" if config.rank else config.rule


def _row(name: str, model: str, scale: str, shown: str, device: Device = "cpu") -> Row:
    what = f"{model} of scale {scale}: a step of {shown} over bp"
    return Row(name, what, partial(steps, model, scale, shown, device), device=device)


ROWS = [
    _row("cnn-steps", "cnn", "cpu", "ldfa r = 1/8"),
    _row("vit-steps", "vit", "cpu", "ldfa-track r = 4"),
    _row("cnn-steps-gpu", "cnn", "gpu", "ldfa r = 1/8", "cuda"),
    _row("vit-steps-gpu", "vit", "gpu", "ldfa-track r = 32", "cuda"),
]
