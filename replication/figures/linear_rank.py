"""Loss that a linear network is left with, over the rank of the feedback, for each teacher (L2, L3)."""

import pandas as pd
from matplotlib.figure import Figure

from bench.records.runs import remaining_losses
from replication.claims._linear import dimension, teachers
from replication.figures.base import level, over_rank, rank_axis
from replication.results import Results

RULES = ("fa-lowrank", "ldfa-q", "ldfa")


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """One panel a teacher: the rules over rank, bp as a line, r = s dotted."""
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
    figure = Figure(figsize=(3.0 * len(names) + 1.2, 3.0))
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, dataset in zip(axes, names, strict=True):
        here = runs[runs["dataset"] == dataset]
        for style, rule in enumerate(RULES):
            over_rank(ax, here[here["rule"] == rule], "remaining_loss", rule, style)
        level(ax, here[here["rule"] == "bp"]["remaining_loss"], "bp", "-")
        ax.axvline(dimension(dataset), color="0.6", linestyle=":", linewidth=1)
        ax.set(xlabel="rank r of the feedback", title=f"teacher of dimension s = {dimension(dataset)}")
        rank_axis(ax, [cell for cell in cells if cell.config.dataset == dataset])
        ax.set_yscale("log")
    axes[0].set_ylabel("remaining loss (%)")
    if len(runs):
        axes[-1].legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure, runs


FIGURE = draw
