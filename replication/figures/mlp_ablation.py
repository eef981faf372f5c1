"""Test accuracy over rank where both, one or none of P and Q learn (A1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures.base import level, over_rank, rank_axis, seeds_of
from replication.results import Results

LEARNS = {"ldfa": "P and Q learn", "ldfa-q": "Q learns", "ldfa-p": "P learns", "fa-lowrank": "both fixed"}


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """One curve a rule, backpropagation as a line."""
    figure = Figure(figsize=(5.2, 3.4))
    ax = figure.subplots()
    runs = seeds_of(results.cells)
    variant = runs["setting"].str.endswith("output=error")
    for style, (rule, what) in enumerate(LEARNS.items()):
        over_rank(ax, runs[(runs["rule"] == rule) & ~variant], "accuracy", f"{rule}: {what}", style)
    over_rank(ax, runs[variant], "accuracy", "ldfa, P of the output layer from the error", len(LEARNS))
    level(ax, results.accuracy("bp").values(), "bp", "-")
    rank_axis(ax, results.cells)
    ax.set(xlabel="rank r of every error channel", ylabel="test accuracy (%)")
    ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure, runs


FIGURE = draw
