"""Test accuracy over the rank of one layer's error channel (N1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.claims.n1 import LAYERS
from replication.figures.base import level, over_rank, rank_axis, seeds_of
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """One curve a constrained layer, backpropagation and the rule at full rank as lines."""
    figure = Figure(figsize=(5.2, 3.4))
    ax = figure.subplots()
    for style, (layer, where) in enumerate(LAYERS.items()):
        cells = [c for c in results.cells if (c.config.rank or "").startswith(f"{layer}=")]
        over_rank(ax, seeds_of(cells), "accuracy", f"ldfa, {layer} ({where})", style)
    level(ax, results.accuracy("bp").values(), "bp", "-")
    level(ax, results.accuracy("ldfa", "full").values(), "ldfa, all layers full", "--")
    rank_axis(ax, results.cells)
    ax.set(xlabel="rank r of the constrained error channel", ylabel="test accuracy (%)")
    ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure, seeds_of(results.cells)


FIGURE = draw
