"""Test accuracy minus that of bp over the rank of the feedback, on MLP, CNN and ViT: the figure in README.md."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.stats import mean_interval
from replication.figures._against_bp import curve, points_axis, reference, seeds_of
from replication.figures.base import NETWORKS, SHIFT, legend, rank_axis, signs
from replication.results import Cell, Results
from replication.verdicts import lowest

RULES = ("ldfa", "ldfa-track")
XLABELS = {"cnn": "rank r, as a fraction of the channels"}


def draw(*networks: Results) -> tuple[Figure, pd.DataFrame]:
    """A panel per network with runs, full rank at the end of each curve."""
    shown = [results for results in networks if results.baseline and _curves(results)]
    figure = Figure(figsize=(3.2 + 2.6 * len(shown), 3.1), layout="constrained")
    if not shown:
        figure.text(0.5, 0.5, "no runs yet", ha="center", va="center", color="0.4")
        return figure, seeds_of([], {})
    axes, frames = figure.subplots(1, len(shown), squeeze=False)[0], []
    for ax, results in zip(axes, shown, strict=True):
        model, cells = results.experiment.model, _curves(results)
        frames.append(seeds_of(cells, results.baseline).assign(network=model, scale=results.scale))
        _panel(ax, cells, results.baseline)
        level, n = lowest(cell.level for cell in cells), max(len(cell.records) for cell in cells)
        ax.set(xlabel=XLABELS.get(model, "rank r of the feedback"))
        ax.set_title(f"{NETWORKS.get(model, model)}\n{cells[0].config.dataset}, level {level}, n = {n}", fontsize=8)
    points_axis(axes)
    legend(figure, axes, *signs())
    return figure, pd.concat(frames)


def _curves(results: Results) -> list[Cell]:
    """The recorded settings of the rules at a rank or at full rank; on the CNN, only fractions of the channels."""
    return [
        cell
        for cell in results.cells
        if cell.records
        and cell.config.rule in RULES
        and not cell.options
        and not (cell.config.model == "cnn" and isinstance(cell.rank, int))
    ]


def _panel(ax: Axes, cells: Sequence[Cell], bp: Mapping[int, float]) -> None:
    ranks = [cell.rank for cell in cells if cell.rank]
    full = 2 * float(max(ranks, default=1))
    curves = {rule: [cell for cell in cells if cell.config.rule == rule] for rule in RULES}
    drawn = [rule for rule, of_rule in curves.items() if of_rule]
    for place, rule in enumerate(drawn):
        shift = SHIFT ** (place - (len(drawn) - 1) / 2)
        curve(ax, curves[rule], bp, full, rule, RULES.index(rule), shift)
    interval = mean_interval(bp.values())
    if interval.n > 1:
        half = interval.high - interval.estimate
        ax.axhspan(-half, half, color="0.25", alpha=0.12, linewidth=0, label="95% interval of bp alone")
    rank_axis(ax, ranks, full if any(cell.rank is None for cell in cells) else None)
    reference(ax, {})


FIGURE = draw
