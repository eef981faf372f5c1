"""Accuracy over the compute of a training step, and the compute beside the time it takes (E1)."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.claims.e1 import LIMIT, steps_of
from replication.figures.base import MARKERS
from replication.results import Results

COLUMNS = ["network", "setting", "rule", "rank", "authors_flops", "flops", "seconds", "minus_bp"]


def draw(cnn: Results, vit: Results) -> tuple[Figure, pd.DataFrame]:
    """A curve a network and rule over r. Left, accuracy lost over FLOPs; right, measured time over FLOPs."""
    rows = [row for found in (cnn, vit) for row in steps_of(found)]
    steps = pd.DataFrame(rows, columns=COLUMNS)
    steps = steps[steps["rank"].notna()].sort_values("flops")
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for style, ((network, rule), here) in enumerate(steps.groupby(["network", "rule"], sort=False)):
        name = f"{network}, {rule}"
        _curve(left, here.assign(lost=-here["minus_bp"]), "lost", name, style)
        _curve(right, here, "seconds", name, style)
    left.axvline(LIMIT, color="0.6", linestyle=":", linewidth=1)
    left.axhline(0, color="0.6", linewidth=0.8)
    left.set(ylabel="test accuracy lost against bp (points)")
    ends = [steps["flops"].min(), steps["flops"].max()]
    right.plot(ends, ends, color="0.6", linestyle="--", linewidth=0.8, label="as many FLOPs, as much time")
    right.set(ylabel="measured time of a step over bp's")
    for ax in (left, right):
        ax.set(xlabel="FLOPs of a step over bp's")
    right.legend(frameon=False, fontsize=7)
    return figure, steps


def _curve(ax: Axes, steps: pd.DataFrame, measure: str, name: str, style: int) -> None:
    steps = steps.dropna(subset=measure)
    color = sns.color_palette()[style]
    ax.plot(steps["flops"], steps[measure], marker=MARKERS[style], color=color, label=name)
    for row in steps.itertuples():
        where = (row.flops, getattr(row, measure))
        ax.annotate(row.rank, where, xytext=(3, 3), textcoords="offset points", fontsize=6, color=color)


FIGURE = draw
