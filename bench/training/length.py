"""How long a run is."""

from math import ceil

from bench.config import Config
from bench.data import sizes

FIRST_LOSSES = 50
"""Steps whose losses a record keeps."""


def steps(config: Config) -> int:
    """Training steps of a run on the training split."""
    return config.epochs * (ceil(examples(config) / config.batch_size) if config.batch_size else 1)


def examples(config: Config) -> int:
    """Examples of an epoch on the training split."""
    whole = sizes(config.dataset).train
    return min(whole, config.epoch_examples or whole)
