"""Test accuracy of every rule on the ViT."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures.base import by_setting, seeds_of
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A row a setting, a point a seed."""
    return by_setting(results.cells), seeds_of(results.cells)


FIGURE = draw
