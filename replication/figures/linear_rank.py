"""Remaining loss of a linear network over the rank of the feedback, for each teacher (L2, L3)."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.records.runs import remaining_losses
from replication.claims._linear import WRONG, dimension, teachers
from replication.claims.l3 import RIGHT
from replication.figures.base import SHIFT, legend, level, over_rank, rank_axis, signs
from replication.results import Results

RULES = ("fa-lowrank", "ldfa-q", "ldfa")
REACHES_0 = Line2D([], [], linestyle="", marker="v", markersize=4, color="0.2", label="95% interval reaches 0")


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A panel per teacher: the rules over rank, bp as a line, r = s, and the limits of L2 and L3."""
    names = teachers(results)
    cells = [cell for cell in results.cells if not cell.config.model_options]
    runs = pd.DataFrame(
        (
            (cell.config.rule, cell.config.dataset, cell.rank, seed, loss)
            for cell in cells
            for seed, loss in remaining_losses(cell.records).items()
        ),
        columns=["rule", "dataset", "rank", "seed", "remaining_loss"],
    )
    figure = Figure(figsize=(3.4 * len(names) + 1.8, 3.2), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, dataset in zip(axes, names, strict=True):
        here = runs[runs["dataset"] == dataset]
        ax.set_yscale("log")
        for style, rule in enumerate(RULES):
            over_rank(ax, here[here["rule"] == rule], "remaining_loss", rule, style, SHIFT * (style - 1))
        level(ax, here[here["rule"] == "bp"]["remaining_loss"], "bp", "-")
        ax.axvline(dimension(dataset), color="0.85", linewidth=1, label="r = s", zorder=0)
        ax.axhline(WRONG, color="0.4", linestyle=(0, (8, 3)), linewidth=0.8, label=f"wrong above {WRONG:g}% (L2)")
        ax.axhline(RIGHT, color="0.4", linestyle="-.", linewidth=0.8, label=f"right below {RIGHT:g}% (L3)")
        ax.set(xlabel="rank r of the feedback", title=f"teacher of dimension s = {dimension(dataset)}")
        rank_axis(ax, [cell.rank for cell in cells if cell.config.dataset == dataset and cell.rank])
    axes[0].set_ylabel("remaining loss (%)")
    legend(figure, axes, *signs(), REACHES_0)
    return figure, runs


FIGURE = draw
