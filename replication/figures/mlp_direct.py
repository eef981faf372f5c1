"""Test accuracy over the rank of direct feedback (N4)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures.base import DASHES, level, over_rank, rank_axis, seeds_of
from replication.results import Results

SOURCES = {"": "error of the output", "hidden": "error of the last hidden layer"}


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """One curve a source of the error; backpropagation and the direct rules without a rank as lines."""
    figure = Figure(figsize=(5.2, 3.4))
    ax = figure.subplots()
    ranked = [cell for cell in results.cells if cell.rank]
    for style, (source, where) in enumerate(SOURCES.items()):
        cells = [cell for cell in ranked if cell.config.rule_options.get("source", "") == source]
        over_rank(ax, seeds_of(cells), "accuracy", f"ldfa-direct, {where}", style)
    for label, dashes in zip(("bp", "dfa", "dkp", "drtp"), DASHES, strict=True):
        level(ax, results.accuracy(label).values(), label, dashes)
    rank_axis(ax, ranked)
    ax.set(xlabel="rank r of the direct feedback", ylabel="test accuracy (%)")
    ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure, seeds_of(results.cells)


FIGURE = draw
