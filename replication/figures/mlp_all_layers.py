"""Test accuracy over the rank of all error channels, and over the width that backpropagation trains (N2)."""

import pandas as pd
from matplotlib.figure import Figure

from bench.stats import mean_interval
from replication.figures.base import DASHES, level, over_rank, rank_axis, seeds_of
from replication.results import Cell, Results

WIDTH = 512
"""Of a network whose options name none."""


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Left, accuracy over rank, full rank and rules without a rank as lines; right, bp over width, a point a seed."""
    figure = Figure(figsize=(8.6, 3.2), layout="constrained")
    runs = seeds_of(results.cells)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for style, rule in enumerate(("ldfa", "ldfa-q")):
        over_rank(left, runs[runs["rule"] == rule], "accuracy", rule, style)
    unranked = [c for c in results.cells if c.rank is None and not c.options]
    for cell, dashes in zip(unranked, DASHES, strict=False):
        level(left, cell.accuracy.values(), cell.label, dashes)
    rank_axis(left, results.cells)
    left.set(xlabel="rank r of every error channel", ylabel="test accuracy (%)")

    networks = sorted((c for c in results.cells if c.config.rule == "bp" and c.records), key=_width)
    means = [mean_interval(c.accuracy.values()).estimate for c in networks]
    right.plot([_width(c) for c in networks], means, "-o", color="0.25", label="bp")
    for cell in networks:
        accuracies = list(cell.accuracy.values())
        right.scatter([_width(cell)] * len(accuracies), accuracies, s=8, color="0.25", alpha=0.5, linewidths=0)
    level(right, results.accuracy("ldfa", "10").values(), "ldfa r=10", "--", color="C0")
    right.set_xscale("log", base=2)
    right.set_xticks([_width(c) for c in networks], [str(_width(c)) for c in networks])
    right.set(xlabel="width of the network")
    for ax in (left, right):
        ax.legend(frameon=False, fontsize=7)
    return figure, runs


def _width(cell: Cell) -> int:
    return cell.config.model_options.get("width", WIDTH)


FIGURE = draw
