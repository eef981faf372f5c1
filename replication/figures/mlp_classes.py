"""Accuracy relative to backpropagation over rank, for each number of classes, and the needed rank (N3)."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.figures.base import DASHES, MARKERS, legend, over_rank, rank_axis, signs
from replication.results import Results
from replication.task_dimension import FRACTION, Task, tasks

COLUMNS = ["dataset", "classes", "width", "rank", "seed", "accuracy", "bp_accuracy", "ratio", "crossing_rank"]


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A panel per width with a curve per number of classes d; right: needed rank over d, a curve per width."""
    found = tasks(results)
    runs = pd.DataFrame((row for task in found for row in _rows(task)), columns=COLUMNS)
    widths = sorted({task.width for task in found})
    sizes = sorted({task.classes for task in found})
    figure = Figure(figsize=(2.7 * len(widths) + 5.2, 3.4), layout="constrained")
    *panels, right = figure.subplots(1, len(widths) + 1, squeeze=False)[0]
    for ax, width in zip(panels, widths, strict=True):
        here = runs[runs["width"] == width]
        for style, classes in enumerate(sizes):
            over_rank(ax, here[here["classes"] == classes], "ratio", f"d = {classes}", style)
        ax.axhline(1, color="0.25", linewidth=1, zorder=0, label="bp")
        ax.axhline(FRACTION, linestyle=":", color="0.5", linewidth=1, zorder=0, label=f"{FRACTION:.0%} of bp")
        rank_axis(ax, [cell.rank for cell in results.cells if cell.rank and cell.records])
        ax.set(xlabel="rank r of every error channel", title=f"width {width}")
        ax.sharey(panels[0])
    if len(runs):
        panels[0].set_ylabel("accuracy relative to bp")
        _needed(right, found)
        legend(figure, [*panels, right], *signs())
    return figure, runs


def _rows(task: Task) -> list[tuple]:
    """One row per run of `ldfa`, with accuracies averaged over the groups."""
    return [
        (
            *(task.dataset, task.classes, task.width, rank, seed),
            *(task.ldfa[rank][seed], task.bp[seed], ratio, task.crossing.get(seed)),
        )
        for rank in task.ldfa
        for seed, ratio in task.ratios(rank).items()
    ]


def _needed(ax: Axes, found: list[Task]) -> None:
    """Crossing ranks, a point per seed with their means joined; r* as open symbols with a bar for the grid's gap."""
    sizes = sorted({task.classes for task in found})
    for style, width in enumerate(sorted({task.width for task in found})):
        shift, color = 1.06**style, sns.color_palette()[style]
        here = [task for task in found if task.width == width]
        points = [(task.classes, rank) for task in here for rank in task.crossing.values()]
        frame = pd.DataFrame(points, columns=["rank", "crossing"])
        over_rank(
            ax,
            frame.assign(rank=frame["rank"] * shift),
            "crossing",
            f"rank that reaches {FRACTION:.0%} of bp, width {width}",
            style,
        )
        for task in here:
            if task.needed.rank:
                span = [task.needed.above or task.needed.rank, task.needed.rank]
                ax.plot([task.classes * shift] * 2, span, color=color, linewidth=0.8)
                ax.plot(task.classes * shift, task.needed.rank, MARKERS[style], color=color, mfc="none", markersize=9)
    if any(task.needed.rank for task in found):
        words = "r*, the smallest rank that matches bp;\nbar: down to the largest rank below bp"
        ax.plot([], [], "o-", color="0.4", mfc="none", markersize=9, linewidth=0.8, label=words)
    ax.plot(sizes, sizes, DASHES[3], color="0.6", linewidth=0.8, label="r = d", zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(classes) for classes in sizes])
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="classes d", ylabel="needed rank r")
    ax.minorticks_off()
    ax.margins(x=0.08, y=0.3)


FIGURE = draw
