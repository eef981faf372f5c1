"""Accuracy lost against the rank of the feedback, on the MLP, the CNN and the ViT: what README.md opens with."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.stats import mean_interval
from replication.figures._against_bp import POINTS, curve, points_axis, reference, seeds_of
from replication.figures.base import SHIFT, legend, rank_axis, signs
from replication.results import Cell, Results
from replication.stats import lowest

RULES = ("ldfa", "ldfa-track")
NAMES = {"mlp": "MLP", "cnn": "CNN", "vit": "ViT"}
XLABELS = {"cnn": "rank r, in parts of the channels"}


def draw(*networks: Results) -> tuple[Figure, pd.DataFrame]:
    """A panel per network, full rank at the end of each curve; a network without runs is said to have none."""
    figure = Figure(figsize=(9.8, 3.1), layout="constrained")
    axes, frames = figure.subplots(1, len(networks)), []
    for ax, results in zip(axes, networks, strict=True):
        model = results.experiment.model
        cells = [cell for cell in results.cells if cell.records and _on_a_curve(cell)]
        runs = seeds_of(cells, results.baseline).assign(network=model, scale=results.scale)
        frames.append(runs)
        if runs["minus_bp"].notna().any():
            _panel(ax, cells, results)
            level, n = lowest(cell.level for cell in cells), max(len(cell.records) for cell in cells)
            words = f"{cells[0].config.dataset}, level {level}, n = {n}"
        else:
            ax.text(0.5, 0.5, "no runs yet", transform=ax.transAxes, ha="center", va="center", color="0.4")
            ax.set(xticks=[], yticks=[])
            words = ""
        ax.set(xlabel=XLABELS.get(model, "rank r of the feedback"))
        ax.set_title(f"{NAMES.get(model, model)}\n{words}", fontsize=8)
    axes[0].set_ylabel(POINTS)
    legend(figure, axes, *(signs() if len(pd.concat(frames)) else ()))
    return figure, pd.concat(frames)


def _on_a_curve(cell: Cell) -> bool:
    """Whether it is one of the rules at a rank or at full rank; on the CNN, ranks in parts of the channels."""
    absolute = cell.config.model == "cnn" and isinstance(cell.rank, int)
    return cell.config.rule in RULES and not cell.options and not absolute


def _panel(ax: Axes, cells: list[Cell], results: Results) -> None:
    bp, ranks = results.baseline, [cell.rank for cell in cells if cell.rank]
    full = 2 * float(max(ranks, default=1))
    for style, rule in enumerate(RULES):
        of_rule = [cell for cell in cells if cell.config.rule == rule]
        curve(ax, of_rule, bp, full, rule, style, shift=SHIFT ** (style - 0.5))
    interval = mean_interval(bp.values())
    if interval.n > 1:
        half = interval.high - interval.estimate
        ax.axhspan(-half, half, color="0.25", alpha=0.12, linewidth=0, label="95% interval of bp")
    rank_axis(ax, ranks, full if any(cell.rank is None for cell in cells) else None)
    reference(ax, {})
    points_axis(ax)


FIGURE = draw
