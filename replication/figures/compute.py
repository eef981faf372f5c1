"""Training compute up to shares of bp's accuracy on the MLP, relative to bp (context of E1)."""

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.stats import Interval
from replication.compute import SHARES, compute_table
from replication.figures.base import MARKERS, interval_bar, legend, moved
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """One row per setting: the FLOPs up to each share of bp's accuracy relative to bp, with their 95% interval.

    If runs never reach the share, their mean is a lower bound: an open mark with an arrow, without an interval.
    """
    numbers = compute_table(results).numbers
    rows = numbers[numbers["setting"] != "bp"] if len(numbers) else numbers
    figure = Figure(figsize=(6.4, 1.1 + 0.42 * len(rows)), layout="constrained")
    ax = figure.subplots()
    for place, row in enumerate(rows.to_dict("records")):
        for style, share in enumerate(SHARES):
            _ratio(ax, place + 0.22 * (style - 1), row, f"flops_to_{share:.0%}", row[f"never_{share:.0%}"], style)
    ax.axvline(1, color="0.25", linewidth=1, zorder=1, label="bp")
    ax.set(xlabel="training FLOPs until then, relative to bp")
    ax.grid(axis="y", linewidth=0.3)
    ax.margins(x=0.12)
    ax.set_yticks(range(len(rows)), list(rows["setting"]) if len(rows) else [])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    marks = [
        Line2D([], [], linestyle="", marker=MARKERS[style], color=sns.color_palette()[style], label=words)
        for style, words in enumerate(f"{share:.0%} of bp's final accuracy" for share in SHARES)
    ]
    bound = "lower bound: some runs never reach it\nand count with all their training"
    look: dict[str, Any] = {"marker": r"$\circ\!\!\rightarrow$", "markersize": 13, "markeredgewidth": 0.1}
    marks.append(Line2D([], [], linestyle="", color="0.2", label=bound, **look))
    marks.append(Line2D([], [], linestyle="", marker="|", markersize=9, color="0.2", label="95% interval"))
    legend(figure, [ax], *marks)
    return figure, numbers


def _ratio(ax: Axes, place: float, row: dict, name: str, never: int, style: int) -> None:
    color = sns.color_palette()[style]
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    face = "none" if never else color
    ax.plot(row[name], place, MARKERS[style], markersize=4, color=color, mfc=face, zorder=5)
    if never:
        arrow = {"arrowstyle": "->", "color": color, "shrinkA": 2, "shrinkB": 0}
        at, ahead = (row[name], place), ax.transData + moved(ax, 18)
        ax.annotate("", at, at, xycoords=ahead, textcoords="data", arrowprops=arrow)
    elif pd.notna(low):
        interval_bar(ax, place, Interval(row[name], low, high, 2), color, across=True)


FIGURE = draw
