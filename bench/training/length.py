"""The length of a run."""

from math import ceil

from bench.config import Config
from bench.data import sizes

FIRST_LOSSES = 50
"""Number of steps whose losses are recorded."""


def steps(config: Config) -> int:
    """Number of training steps in a run on the training split."""
    return config.epochs * (ceil(examples(config) / config.batch_size) if config.batch_size else 1)


def examples(config: Config) -> int:
    """Number of examples in an epoch on the training split."""
    whole = sizes(config.dataset).train
    return min(whole, config.epoch_examples or whole)
