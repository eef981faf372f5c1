"""The figures, one file each; `FIGURES.get(name)` is the drawing function of a figure."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.registry import Registry

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from replication.results import Results

FIGURES: "Registry[Callable[[Results], tuple[Figure, pd.DataFrame]]]" = Registry("figure", "replication.figures")
