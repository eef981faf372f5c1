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
from matplotlib.transforms import ScaledTranslation

from bench.stats import Interval, mean_interval
from replication.results import Cell, Results

mpl.use("agg")
STYLE = {"svg.hashsalt": "bench", "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}
sns.set_theme(context="paper", style="ticks", palette="colorblind", rc=STYLE)

NETWORKS = {"mlp": "MLP", "cnn": "CNN", "vit": "ViT"}
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.")
SEED: dict[str, Any] = {"s": 7, "color": "0.55", "linewidths": 0, "zorder": 2}
"""Style of the point of one seed."""
OUTSIDE: dict[str, Any] = {"frameon": False, "fontsize": 7, "loc": "outside right center"}
BESIDE = 4.0
"""Distance of the points of seeds from their mean, in points, so that the interval does not hide them."""
SHIFT = 8.0
"""Distance between the curves of a panel over rank, in points, so that their intervals are side by side."""


def titled(figure: Figure, claims: Sequence[str], found: Sequence[Results], levels: Sequence[str]) -> None:
    """Adds the title line: claims, network, data, scale and level, seeds of the recorded settings, and those missing.

    A figure that shows only some of the data and seeds names them in a title of its own, which takes their place.
    """
    cells = [cell for each in found for cell in each.cells if cell.records]
    names = {cell.config.dataset.partition("@")[0]: cell.config.dataset.partition(":")[0] for cell in cells}
    data = ", ".join(names if len(names) < 3 else dict.fromkeys(names.values())) or "no runs"
    networks = " and ".join(dict.fromkeys(each.experiment.model for each in found))
    level = "".join(f", level {each}" for each in dict.fromkeys(filter(None, levels)))
    part = figure.get_suptitle()
    n = f", {number_of_seeds(cells)}" if cells and not part else ""
    asked = f"{', '.join(claims)}: " if claims else ""
    missing = sum(len(each.cells) for each in found) - len(cells)
    rest = f", {missing} settings not run" if n and missing else ""
    words = f"{asked}{networks}, {part or data}, scale {found[0].scale}{level}{n}{rest}"
    figure.suptitle(words, x=0.01, ha="left", fontsize=8, fontweight="bold")


def number_of_seeds(cells: Iterable[Cell]) -> str:
    """The number of seeds of recorded settings in words: `n = 5`, or `n = 3 to 5`."""
    seeds = sorted({len(cell.records) for cell in cells})
    return f"n = {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}"


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


def moved(ax: Axes, right: float, down: float = 0.0) -> ScaledTranslation:
    """To the right and down by a number of points; what is drawn so does not count for the limits of the axes."""
    return ScaledTranslation(right / 72, -down / 72, ax.figure.dpi_scale_trans)


def interval_bar(
    ax: Axes, x: float, interval: Interval, color: str, *, across: bool = False, shift: float = 0.0
) -> None:
    """The 95% interval of a mean as a bar, upright or `across`, `shift` points aside; nothing below two values.

    A logarithmic y axis cannot show 0: an interval that reaches it ends in an arrow at the bottom.
    """
    if not isfinite(interval.low):
        return
    ends, at = [interval.low, interval.high], [x, x]
    bar = (ends, at) if across else (at, ends)
    look: dict[str, Any] = {"color": color, "linewidth": 1.4, "solid_capstyle": "butt", "zorder": 4}
    ax.update_datalim(list(zip(*bar, strict=True)))
    ax.plot(*bar, transform=ax.transData + moved(ax, shift), **look)
    if ax.get_yscale() == "log" and interval.low <= 0:
        bottom = ax.get_xaxis_transform() + moved(ax, shift)
        ax.plot(x, 0.02, "v", color="0.2", markersize=4, transform=bottom, zorder=5)


def over_rank(ax: Axes, runs: pd.DataFrame, measure: str, label: str, style: int, shift: float = 0.0) -> None:
    """A column of `runs` over rank: a point per seed, means with 95% intervals, joined by a line if three or more.

    All is drawn `shift` points aside.
    """
    runs = runs.dropna(subset=["rank", measure]).sort_values("rank")
    if runs.empty:
        return
    color = sns.color_palette()[style]
    by_rank = runs.groupby("rank")[measure]
    means = by_rank.mean()
    look = {"marker": MARKERS[style], "markersize": 4, "color": color, "label": label}
    line = DASHES[style % len(DASHES)] if len(means) > 2 else ""
    here, beside = (ax.transData + moved(ax, points) for points in (shift, shift + BESIDE))
    ax.update_datalim(runs[["rank", measure]])
    ax.plot(means.index, means, linestyle=line, linewidth=1, zorder=3, transform=here, **look)
    ax.scatter(runs["rank"], runs[measure], transform=beside, **SEED | {"color": color, "alpha": 0.5})
    for rank, values in by_rank:
        interval_bar(ax, rank, mean_interval(values), color, shift=shift)


def rank_axis(ax: Axes, ranks: Iterable[int | Fraction], full: float | None = None) -> None:
    """A logarithmic axis with a tick at each rank, and one labelled full."""
    ticks = {float(rank): str(rank) for rank in sorted(set(ranks))} | ({full: "full"} if full else {})
    if ticks:
        ax.set_xscale("log", base=2)
        ax.set_xticks([*ticks], [*ticks.values()])
        ax.set_xlim(min(ticks) / 1.4, max(ticks) * 1.4)
        ax.minorticks_off()


def level(ax: Axes, values: Iterable[float], label: str, dashes: str) -> None:
    """A setting without a rank: its mean as a line, its 95% interval as a band, its seeds near the right edge."""
    values = list(values)
    if not values:
        return
    interval, color = mean_interval(values), "0.25"
    ax.axhline(interval.estimate, linestyle=dashes, color=color, linewidth=1, label=label, zorder=1)
    if interval.n > 1:
        band = f"95% interval of {label}"
        ax.axhspan(interval.low, interval.high, color=color, alpha=0.12, linewidth=0, zorder=0, label=band)
    ax.scatter([0.98] * len(values), values, transform=ax.get_yaxis_transform(), **SEED)


def over_training(ax: Axes, runs: pd.DataFrame, y: str) -> None:
    """A column of `runs` over epochs, by setting: a thin line per seed, the mean with marks and final interval."""
    for style, (setting, here) in enumerate(runs.groupby("setting", sort=False)):
        look = {"color": sns.color_palette()[style % 10], "linestyle": DASHES[style % 4]}
        for _, seed in here.groupby("seed"):
            ax.plot(seed["epoch"], seed[y], linewidth=0.4, alpha=0.4, **look)
        mean = here.dropna(subset=y).groupby("epoch")[[y]].mean().reset_index()
        if len(mean):
            marker = MARKERS[style % len(MARKERS)]
            ax.plot(mean["epoch"], mean[y], marker=marker, markersize=3, linewidth=1, label=setting, **look)
            end = mean.iloc[-1]
            last = here[here["epoch"] == end["epoch"]].dropna(subset=y)
            interval_bar(ax, end["epoch"], mean_interval(last[y]), look["color"])


def save(figure: Figure, numbers: pd.DataFrame, path: Path) -> None:
    """Writes `path`.svg, `path`.png and their numbers as `path`.csv; the same records give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers.to_csv(path.with_suffix(".csv"), index=False, float_format="%.6g")
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None}, bbox_inches="tight")
    figure.savefig(path.with_suffix(".png"), metadata={"Software": None}, bbox_inches="tight", dpi=150)
