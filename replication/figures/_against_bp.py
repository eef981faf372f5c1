"""Accuracy minus that of backpropagation on the same network, paired by seed: over rank, and by setting."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MultipleLocator, NullLocator

from bench.stats import MARGIN, mean_interval
from replication.figures.base import BESIDE, SEED, SHIFT, interval_bar, legend, moved, over_rank, rank_axis, signs
from replication.results import Cell, Results

POINTS = "test accuracy minus bp (points)"
NARROW = 24
"""Characters in a line of the slanted labels."""
TICKS = (2, 1, 0, -1, -2, -5, -10, -20, -50)
FAR = 8.0
"""Points below bp from which an axis is partly logarithmic, so that a failing rule hides no other."""
LINEAR = 2.0
"""Points up to which such an axis is linear."""


def seeds_of(cells: Sequence[Cell], results: Results) -> pd.DataFrame:
    """One row per run: setting, rule, rank, seed, accuracy in percent, points above bp with its seed, status."""
    baselines = [results.baseline_of(cell) for cell in cells]
    rows = [
        {
            "setting": cell.label,
            "rule": cell.config.rule,
            "rank": cell.config.rank,
            "seed": seed,
            "accuracy": accuracy,
            "minus_bp": accuracy - bp[seed] if seed in bp else None,
            "status": cell.records[seed]["status"],
        }
        for cell, bp in zip(cells, baselines, strict=True)
        for seed, accuracy in cell.accuracy.items()
    ]
    return pd.DataFrame(rows, columns=["setting", "rule", "rank", "seed", "accuracy", "minus_bp", "status"])


def over_the_rank(
    results: Results, curves: Mapping[str, Sequence[Cell]], beside: Sequence[Cell], xlabel: str
) -> tuple[Figure, pd.DataFrame]:
    """A curve per entry of `curves` over rank, full rank at its end; the settings `beside` in a separate panel."""
    beside = [cell for cell in beside if cell.records]
    figure = Figure(figsize=(7.2 + 0.3 * len(beside), 3.4), layout="constrained")
    ranked = [cell.rank for cells in curves.values() for cell in cells if cell.records]
    ranks = [rank for rank in ranked if rank]
    full = 2 * float(max(ranks, default=1))
    if beside:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4.5, 0.9 + 0.3 * len(beside)))
    else:
        left, right = figure.subplots(), None
    for style, (label, cells) in enumerate(curves.items()):
        curve(left, cells, results, full, label, style, shift=SHIFT * (style - (len(curves) - 1) / 2))
    rank_axis(left, ranks, full if None in ranked else None)
    left.set_xlabel(xlabel)
    if right:
        for place, cell in enumerate(beside):
            _setting(right, place, cell, results)
        labels = ["\n".join(wrap(_label(cell, results), NARROW)) for cell in beside]
        right.set_xticks(range(len(beside)), labels, rotation=40, ha="right", fontsize=7)
        right.set_xlim(-0.6, len(beside) - 0.4)
    for ax in filter(None, (left, right)):
        reference(ax, results.baseline)
    points_axis([left])
    legend(figure, filter(None, (left, right)), *signs())
    return figure, seeds_of(results.cells, results)


def _label(cell: Cell, results: Results) -> str:
    """The setting, with the baseline if that is another than `bp` with the options of the scale."""
    bp = None if cell.config.rule == "bp" else results.bp_on_network_of(cell)
    return f"{cell.label} minus {bp.label}" if bp and bp.options else cell.label


def curve(ax: Axes, cells: Sequence[Cell], results: Results, full: float, label: str, style: int, shift: float) -> None:
    """The cells over rank, full rank at `full`, drawn `shift` points aside."""
    runs = [seeds_of([cell], results).assign(rank=float(cell.rank or full)) for cell in cells if cell.records]
    if runs:
        over_rank(ax, pd.concat(runs), "minus_bp", label, style, shift)


def reference(ax: Axes, bp: Mapping[int, float], *, across: bool = False) -> None:
    """bp at zero with its accuracy in the legend, and the margin for a match."""
    line = ax.axvline if across else ax.axhline
    known = f", {mean_interval(bp.values()).estimate:.2f}%" if bp else ""
    line(0, color="0.25", linewidth=1, label=f"bp{known}", zorder=1)
    limit = f"limit of a match: {-MARGIN:g} point"
    line(-MARGIN, color="0.25", linewidth=0.8, linestyle=(0, (1, 2)), label=limit, zorder=1)


def points_axis(axes: Sequence[Axes], *, across: bool = False) -> None:
    """The axis of the points above bp, alike in all panels, with its label at the first.

    It is linear, or if a panel goes down to `FAR`, linear near bp and logarithmic further away.
    """
    far = min((ax.get_xlim() if across else ax.get_ylim())[0] for ax in axes) < -FAR
    for ax in axes:
        axis, put = (ax.xaxis, ax.set_xlim) if across else (ax.yaxis, ax.set_ylim)
        if far:
            (ax.set_xscale if across else ax.set_yscale)("symlog", linthresh=LINEAR)
            ax.autoscale_view(scalex=across, scaley=not across)
        low, high = ax.get_xlim() if across else ax.get_ylim()
        axis.set_major_locator(FixedLocator(TICKS) if far else MultipleLocator(1))
        axis.set_major_formatter(lambda points, _: f"{points:+g}" if points else "0")
        axis.set_minor_locator(NullLocator())
        put(min(low, -1.5), max(high, 1.0))
    first = axes[0].xaxis if across else axes[0].yaxis
    first.set_label_text(f"test accuracy minus bp\n(points, log scale beyond ±{LINEAR:g})" if far else POINTS)


def _setting(ax: Axes, place: float, cell: Cell, results: Results, *, across: bool = False) -> None:
    """Seeds, mean and interval of one setting, at its place along the other axis."""
    bp = results.baseline_of(cell)
    values = [accuracy - bp[seed] for seed, accuracy in cell.accuracy.items() if seed in bp]
    if not values:
        return
    mean, places = mean_interval(values), [place] * len(values)
    beside = ax.transData + (moved(ax, 0, BESIDE) if across else moved(ax, BESIDE))
    points = (values, places) if across else (places, values)
    ax.update_datalim(list(zip(*points, strict=True)))
    ax.scatter(*points, transform=beside, **SEED)
    ax.plot(
        *((mean.estimate, place) if across else (place, mean.estimate)), "D", color="0.15", markersize=3.5, zorder=5
    )
    interval_bar(ax, place, mean, "0.15", across=across)


def by_setting(ax: Axes, results: Results) -> None:
    """One row per setting, the best first: a point per seed, the mean with its 95% interval."""
    recorded = [cell for cell in results.cells if cell.records and (cell.config.rule != "bp" or cell.options)]
    recorded.sort(key=lambda cell: -mean_interval(cell.accuracy.values()).estimate)
    for row, cell in enumerate(recorded):
        _setting(ax, row, cell, results, across=True)
    ax.set_yticks(range(len(recorded)), [cell.label for cell in recorded])
    ax.set_ylim(len(recorded) - 0.5, -0.5)
    ax.grid(axis="y", linewidth=0.3)
    reference(ax, results.baseline, across=True)
    points_axis([ax], across=True)


def settings_alone(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A figure of all settings, one row each."""
    rows = sum(bool(cell.records) for cell in results.cells)
    figure = Figure(figsize=(7.0, 1.0 + 0.26 * rows), layout="constrained")
    ax = figure.subplots()
    by_setting(ax, results)
    legend(figure, [ax], *signs())
    return figure, seeds_of(results.cells, results)
