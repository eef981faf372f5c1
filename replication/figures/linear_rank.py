"""Remaining loss of a linear network over the rank of the feedback, for each teacher (L2, L3)."""

import pandas as pd
from matplotlib.figure import Figure

from bench.records.runs import remaining_losses
from replication.claims._linear import WRONG, dimension, teachers
from replication.claims.l3 import RIGHT
from replication.figures.base import SHIFT, legend, level, over_rank, rank_axis, signs
from replication.results import Results

RULES = ("fa-lowrank", "ldfa-q", "ldfa")


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
    figure = Figure(figsize=(3.0 * len(names) + 1.8, 3.2), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, dataset in zip(axes, names, strict=True):
        here = runs[runs["dataset"] == dataset]
        for style, rule in enumerate(RULES):
            of_rule = here[here["rule"] == rule]
            over_rank(ax, of_rule.assign(rank=of_rule["rank"] * SHIFT ** (style - 1)), "remaining_loss", rule, style)
        level(ax, here[here["rule"] == "bp"]["remaining_loss"], "bp", "-")
        ax.axvline(dimension(dataset), color="0.6", linestyle=":", linewidth=1, label="r = s")
        ax.axhline(WRONG, color="0.4", linestyle="-.", linewidth=0.8, label=f"wrong above {WRONG:g}% (L2)")
        ax.axhline(RIGHT, color="0.4", linestyle=(0, (1, 2)), linewidth=0.8, label=f"right below {RIGHT:g}% (L3)")
        ax.set(xlabel="rank r of the feedback", title=f"teacher of dimension s = {dimension(dataset)}")
        rank_axis(ax, [cell.rank for cell in cells if cell.config.dataset == dataset and cell.rank])
        ax.set_yscale("log")
    axes[0].set_ylabel("remaining loss (%)")
    legend(figure, axes, *signs())
    return figure, runs


FIGURE = draw
