"""Loss that a linear network is left with, over the rank of the feedback, for each teacher (L2, L3)."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from replication.claims.l2 import dimension, teachers
from replication.figures.base import DASHES, MARKERS, rank_axis
from replication.results import Results
from replication.tables import remaining_loss

RULES = ("fa-lowrank", "ldfa-q", "ldfa")


def draw(results: Results):
    """One panel a teacher; each seed a point, the means joined, bp as a line, r = s dotted."""
    names = teachers(results)
    runs = pd.DataFrame(
        {"rule": c.config.rule, "dataset": c.config.dataset, "rank": c.rank, "seed": seed, "remaining_loss": value}
        for c in results.cells
        if not c.config.model_options
        for seed, value in c.values(remaining_loss, 100.0).items()
    )
    figure = Figure(figsize=(3.0 * len(names) + 1.2, 3.0))
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, dataset in zip(axes, names, strict=True):
        here = runs[runs.dataset == dataset] if len(runs) else runs
        for style, rule in enumerate(RULES):
            chosen = here[here.rule == rule] if len(here) else here
            if len(chosen):
                color = sns.color_palette()[style]
                means = chosen.groupby("rank").remaining_loss.mean()
                ax.plot(means.index, means, DASHES[style], marker=MARKERS[style], color=color, label=rule)
                ax.scatter(chosen["rank"], chosen.remaining_loss, s=8, color=color, alpha=0.5, linewidths=0)
        bp = here[here.rule == "bp"] if len(here) else here
        if len(bp):
            ax.axhline(bp.remaining_loss.mean(), color="0.25", linewidth=1, label="bp")
        ax.axvline(dimension(dataset), color="0.6", linestyle=":", linewidth=1)
        ax.set(xlabel="rank r of the feedback", title=f"teacher of dimension s = {dimension(dataset)}")
        rank_axis(ax, [cell for cell in results.cells if cell.config.dataset == dataset])
        ax.set_yscale("log")
    axes[0].set_ylabel("remaining loss (%)")
    if len(runs):
        axes[-1].legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure, runs


FIGURE = draw
