"""Test accuracy over the rank of all error channels, and over the width that backpropagation trains (N2)."""

from matplotlib.figure import Figure

from replication.figures.base import level, over_rank, rank_axis, seeds_of
from replication.results import Results


def draw(results: Results):
    """Left, accuracy over rank beside the rules without one; the width of the narrow network is in its label."""
    figure = Figure(figsize=(5.2, 3.4))
    ax = figure.subplots()
    for style, rule in enumerate(("ldfa", "ldfa-q")):
        over_rank(ax, [c for c in results.cells if c.config.rule == rule], rule, style)
    wide = [c for c in results.cells if c.rank is None]
    for cell, dashes in zip(wide, ("-", "--", ":", "-.", (0, (1, 3)), (0, (5, 5))), strict=False):
        level(ax, cell, cell.label, dashes)
    rank_axis(ax, results.cells)
    ax.set(xlabel="rank r of every error channel", ylabel="test accuracy (%)")
    ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure, seeds_of(results.cells)


FIGURE = draw
