"""Shared parts of the figures: style, title line, marks and legend, intervals, and reproducible files."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.stats import Interval, mean_interval
from replication.results import Results

mpl.use("agg")
STYLE = {"svg.hashsalt": "bench", "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}
sns.set_theme(context="paper", style="ticks", palette="colorblind", rc=STYLE)

NETWORKS = {"mlp": "MLP", "cnn": "CNN", "vit": "ViT"}
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.")
SEED: dict[str, Any] = {"s": 7, "color": "0.55", "linewidths": 0, "zorder": 2}
"""Style of the point of one seed."""
OUTSIDE: dict[str, Any] = {"frameon": False, "fontsize": 7, "loc": "outside right center"}
BESIDE = 1.02
"""Factor on the rank at which the points of seeds are drawn, so that the interval does not hide them."""
SHIFT = 1.04
"""Factor between the curves of a panel over rank, so that their intervals are side by side."""


def titled(figure: Figure, claims: Sequence[str], found: Sequence[Results], levels: Sequence[str]) -> None:
    """Adds the title line: claims, network, data, scale and level, and seeds of the recorded settings."""
    cells = [cell for each in found for cell in each.cells if cell.records]
    names = {cell.config.dataset.partition("@")[0]: cell.config.dataset.partition(":")[0] for cell in cells}
    data = ", ".join(names if len(names) < 3 else dict.fromkeys(names.values())) or "no runs"
    networks = " and ".join(dict.fromkeys(each.experiment.model for each in found))
    level = "".join(f", level {each}" for each in dict.fromkeys(filter(None, levels)))
    seeds = sorted({len(cell.records) for cell in cells})
    n = f", n = {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}" if seeds else ""
    asked = f"{', '.join(claims)}: " if claims else ""
    words = f"{asked}{networks}, {data}, scale {found[0].scale}{level}{n}"
    figure.suptitle(words, x=0.01, ha="left", fontsize=8, fontweight="bold")


def legend(figure: Figure, axes: Iterable[Axes], *signs: Line2D) -> None:
    """Adds a legend to the right of the figure: the marks of all axes, each name once, and `signs`."""
    handles: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    handles |= {str(sign.get_label()): sign for sign in signs}
    figure.legend(handles.values(), handles, **OUTSIDE)


def signs() -> tuple[Line2D, ...]:
    """Legend entries for the grey point and the bar."""
    seed = Line2D([], [], linestyle="", marker="o", markersize=2.5, color=SEED["color"], label="one seed")
    bar = Line2D([], [], linestyle="", marker="|", markersize=9, color="0.2", label="95% interval")
    return seed, bar


def interval_bar(ax: Axes, x: float, interval: Interval, color: str, *, across: bool = False) -> None:
    """The 95% interval of a mean as a bar, upright or `across`; nothing below two values."""
    if isfinite(interval.low):
        ends, at = [interval.low, interval.high], [x, x]
        ax.plot(*((ends, at) if across else (at, ends)), color=color, linewidth=1.4, solid_capstyle="butt", zorder=4)


def over_rank(ax: Axes, runs: pd.DataFrame, measure: str, label: str, style: int) -> None:
    """A column of `runs` over rank: a point per seed, means with 95% intervals, joined by a line if three or more."""
    runs = runs.dropna(subset=["rank", measure]).sort_values("rank")
    if runs.empty:
        return
    color = sns.color_palette()[style]
    by_rank = runs.groupby("rank")[measure]
    means = by_rank.mean()
    look = {"marker": MARKERS[style], "markersize": 4, "color": color, "label": label}
    line = DASHES[style % len(DASHES)] if len(means) > 2 else ""
    ax.plot(means.index, means, linestyle=line, linewidth=1, zorder=3, **look)
    ax.scatter(runs["rank"] * BESIDE, runs[measure], **SEED)
    for rank, values in by_rank:
        interval_bar(ax, rank, mean_interval(values), color)


def rank_axis(ax: Axes, ranks: Iterable[int | Fraction], full: float | None = None) -> None:
    """A logarithmic axis with a tick at each rank, and one labelled full."""
    ticks = {float(rank): str(rank) for rank in sorted(set(ranks))} | ({full: "full"} if full else {})
    if ticks:
        ax.set_xscale("log", base=2)
        ax.set_xticks([*ticks], [*ticks.values()])
        ax.set_xlim(min(ticks) / 1.25, max(ticks) * 1.25)
        ax.minorticks_off()


def level(ax: Axes, values: Iterable[float], label: str, dashes: str, color: str = "0.25") -> None:
    """A setting without a rank: its mean as a line, its 95% interval as a band, its seeds at the right edge."""
    values = list(values)
    if not values:
        return
    interval = mean_interval(values)
    ax.axhline(interval.estimate, linestyle=dashes, color=color, linewidth=1, label=label, zorder=1)
    if interval.n > 1:
        ax.axhspan(interval.low, interval.high, color=color, alpha=0.12, linewidth=0, zorder=0)
    ax.scatter([1.0] * len(values), values, transform=ax.get_yaxis_transform(), clip_on=False, **SEED)


def over_training(ax: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    """A column of `runs` over another, by setting: a thin line per seed, the mean with marks and final interval."""
    for style, (setting, here) in enumerate(runs.groupby("setting", sort=False)):
        look = {"color": sns.color_palette()[style % 10], "linestyle": DASHES[style % 4]}
        for _, seed in here.groupby("seed"):
            ax.plot(seed[x], seed[y], linewidth=0.4, alpha=0.4, **look)
        mean = here.dropna(subset=y).groupby("epoch")[[x, y] if x != "epoch" else [y]].mean().reset_index()
        if len(mean):
            marker = MARKERS[style % len(MARKERS)]
            ax.plot(mean[x], mean[y], marker=marker, markersize=3, linewidth=1, label=setting, **look)
            end = mean.iloc[-1]
            last = here[here["epoch"] == end["epoch"]].dropna(subset=y)
            interval_bar(ax, end[x], mean_interval(last[y]), look["color"])


def save(figure: Figure, numbers: pd.DataFrame, path: Path) -> None:
    """Writes `path`.svg, `path`.png and their numbers as `path`.csv; the same records give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers.to_csv(path.with_suffix(".csv"), index=False, float_format="%.6g")
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None}, bbox_inches="tight")
    figure.savefig(path.with_suffix(".png"), metadata={"Software": None}, bbox_inches="tight", dpi=150)
