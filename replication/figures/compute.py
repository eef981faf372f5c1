"""Training compute up to shares of bp's accuracy on the MLP, relative to bp (context of E1)."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.stats import Interval
from replication.compute import SHARES, compute_table
from replication.figures.base import MARKERS, interval_bar, legend
from replication.results import Results

COSTS = {"flops": "training FLOPs", "seconds": "training seconds"}


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """One row per setting, one panel per cost: the cost of each share relative to bp, with its 95% interval."""
    numbers = compute_table(results).numbers
    rows = numbers[numbers["setting"] != "bp"] if len(numbers) else numbers
    figure = Figure(figsize=(8.2, 1.1 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(COSTS), sharey=True)
    for ax, (cost, words) in zip(axes, COSTS.items(), strict=True):
        for place, row in enumerate(rows.to_dict("records")):
            for style, share in enumerate(SHARES):
                _ratio(ax, place + 0.22 * (style - 1), row, f"{cost}_to_{share:.0%}", row[f"never_{share:.0%}"], style)
        ax.axvline(1, color="0.25", linewidth=1, zorder=1, label="bp")
        ax.set(xlabel=f"{words} until then,\nrelative to bp")
        ax.grid(axis="y", linewidth=0.3)
    axes[0].set_yticks(range(len(rows)), list(rows["setting"]) if len(rows) else [])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    marks = [
        Line2D([], [], linestyle="", marker=MARKERS[style], color=sns.color_palette()[style], label=words)
        for style, words in enumerate(f"{share:.0%} of bp's final accuracy" for share in SHARES)
    ]
    marks.append(Line2D([], [], linestyle="", marker="o", mfc="none", color="0.2", label="some runs never reach it"))
    marks.append(Line2D([], [], linestyle="", marker="|", markersize=9, color="0.2", label="95% interval"))
    legend(figure, axes, *marks)
    return figure, numbers


def _ratio(ax: Axes, place: float, row: dict, name: str, never: int, style: int) -> None:
    color = sns.color_palette()[style]
    low, high = (bound if pd.notna(bound := row[f"{name}_{end}"]) else float("inf") for end in ("low", "high"))
    face = "none" if never else color
    ax.plot(row[name], place, MARKERS[style], markersize=4, color=color, mfc=face, zorder=5)
    if low < float("inf"):
        interval_bar(ax, place, Interval(row[name], low, high, 2), color, across=True)


FIGURE = draw
