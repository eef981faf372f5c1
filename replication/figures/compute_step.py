"""Accuracy over the compute of a training step, and its time over its compute (E1)."""

from collections.abc import Iterator

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.stats import Interval
from replication.claims.e1 import LIMIT, steps_of
from replication.figures._against_bp import POINTS, reference
from replication.figures.base import MARKERS, NETWORKS, interval_bar, legend
from replication.results import Results

FLOOR = 2 / 3
"""FLOPs of a step without any error path, relative to bp."""
COLUMNS = ["network", "setting", "rule", "rank", "authors_flops", "flops", "seconds"]
COLUMNS += ["minus_bp", "minus_bp_low", "minus_bp_high"]


def draw(cnn: Results, vit: Results) -> tuple[Figure, pd.DataFrame]:
    """Left: FLOPs of a step of the authors' networks, one row per setting; then a panel for each measure that exists.

    Accuracy minus bp over FLOPs, if there are runs; time over FLOPs, if `bench speed` measured their networks. One
    curve per network and rule, over r.
    """
    rows = [row for found in (cnn, vit) for row in steps_of(found)]
    steps = pd.DataFrame(rows, columns=COLUMNS)
    steps = steps[steps["rank"].notna()].sort_values("flops")
    panels = [panel for measure, panel in PANELS.items() if steps[measure].notna().any()]
    figure = Figure(figsize=(6.4 + 3.0 * len(panels), 3.8), layout="constrained")
    axes = figure.subplots(1, 1 + len(panels), squeeze=False)[0]
    _authors(axes[0], steps.sort_values("authors_flops", ascending=False, ignore_index=True))
    for ax, panel in zip(axes[1:], panels, strict=True):
        panel(ax, steps)
        ax.set(xlabel="FLOPs of a step relative to bp", title=f"the networks of scale {cnn.scale}")
    legend(figure, axes)
    return figure, steps


def _by_rule(steps: pd.DataFrame) -> Iterator[tuple[int, str, pd.DataFrame]]:
    """The style, the name and the rows of each network and rule, which have one style in all panels."""
    for style, ((network, rule), here) in enumerate(steps.groupby(["network", "rule"])):
        yield style, f"{NETWORKS[network]}, {rule}", here


def _authors(ax: Axes, steps: pd.DataFrame) -> None:
    for style, name, here in _by_rule(steps):
        look = {"color": sns.color_palette()[style], "markersize": 4, "label": name}
        ax.plot(here["authors_flops"], here.index, MARKERS[style], **look)
    names = [f"{NETWORKS[row.network]} {row.setting}" for row in steps.itertuples()]
    ax.set_yticks(range(len(names)), names)
    ax.axvline(LIMIT, color="0.6", linestyle=":", linewidth=1, label=f"a saving of {1 - LIMIT:.0%}")
    ax.axvline(FLOOR, color="0.6", linestyle="--", linewidth=1, label="no error path at all")
    ax.tick_params(axis="y", labelsize=6)
    ax.set(xlabel="FLOPs of a step relative to bp", title="the authors' networks, counted")


def _accuracy(ax: Axes, steps: pd.DataFrame) -> None:
    for style, name, here in _by_rule(steps):
        _curve(ax, here, "minus_bp", name, style)
    ax.axvline(LIMIT, color="0.6", linestyle=":", linewidth=1)
    reference(ax, {})
    ax.set(ylabel=POINTS)


def _time(ax: Axes, steps: pd.DataFrame) -> None:
    for style, name, here in _by_rule(steps):
        _curve(ax, here, "seconds", name, style)
    ends = [steps["flops"].min(), steps["flops"].max()]
    ax.plot(ends, ends, color="0.6", linestyle="--", linewidth=0.8, label="time in proportion to FLOPs")
    ax.set(ylabel="time of a step relative to bp (bench speed)")


def _curve(ax: Axes, steps: pd.DataFrame, measure: str, name: str, style: int) -> None:
    """The settings of a network and rule; an absolute rank among fractions of the width is not joined to them."""
    steps = steps.dropna(subset=measure)
    look = {"marker": MARKERS[style], "color": sns.color_palette()[style]}
    if measure == "minus_bp":
        for row in steps.dropna(subset=["minus_bp_low", "minus_bp_high"]).itertuples():
            interval_bar(ax, row.flops, Interval(row.minus_bp, row.minus_bp_low, row.minus_bp_high, 2), look["color"])
    apart = steps["rank"].str.isdecimal() & steps["rank"].str.contains("/").any()
    ax.plot(steps["flops"][~apart], steps[measure][~apart], label=name, **look)
    ax.plot(steps["flops"][apart], steps[measure][apart], linestyle="", **look)
    left, text = style == 1, {"textcoords": "offset points", "fontsize": 6, "color": look["color"]}
    for row in steps.itertuples():
        where, aside = (row.flops, getattr(row, measure)), (-4, 4) if left else (4, -8)
        ax.annotate(row.rank, where, xytext=aside, ha="right" if left else "left", **text)


PANELS = {"minus_bp": _accuracy, "seconds": _time}
"""The panels after the first, by what they show."""
FIGURE = draw
