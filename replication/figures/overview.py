"""Test accuracy minus that of bp over the rank of the feedback, on MLP, CNN and ViT: the figure in README.md."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.stats import mean_interval
from replication.figures._against_bp import curve, points_axis, reference, seeds_of
from replication.figures.base import NETWORKS, SHIFT, legend, number_of_seeds, rank_axis, signs
from replication.results import Cell, Results
from replication.verdicts import Level, lowest

RULES = ("ldfa", "ldfa-track")
LEVELS = [*Level]
XLABELS = {"cnn": "rank r, as a fraction of the channels"}


def draw(*grids: Results) -> tuple[Figure, pd.DataFrame]:
    """A panel per network with runs, full rank at the end of each curve; `grids` are at all scales, the largest first.

    A panel has the largest scale of each level, and level reduced only where there is no other.
    """
    networks: dict[str, list[Results]] = {}
    for results in grids:
        networks.setdefault(results.experiment.model, []).append(results)
    shown = [found for scales in networks.values() if (found := _by_level(scales))]
    figure = Figure(figsize=(3.2 + 2.6 * len(shown), 3.1), layout="constrained")
    if not shown:
        figure.text(0.5, 0.5, "no runs yet", ha="center", va="center", color="0.4")
        return figure, seeds_of([], grids[0])
    axes, frames = figure.subplots(1, len(shown), squeeze=False)[0], []
    for ax, found in zip(axes, shown, strict=True):
        for level, results in found.items():
            told = {"network": results.experiment.model, "scale": results.scale, "level": level}
            frames.append(seeds_of(_curves(results), results).assign(**told))
        _panel(ax, found)
    points_axis(axes)
    legend(figure, axes, *signs())
    return figure, pd.concat(frames)


def _by_level(scales: Sequence[Results]) -> dict[Level, Results]:
    found: dict[Level, Results] = {}
    for results in scales:
        if results.baseline and (cells := _curves(results)):
            found.setdefault(lowest(cell.level for cell in cells), results)
    if len(found) > 1:
        found.pop(Level.REDUCED, None)
    return found


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


def _panel(ax: Axes, found: Mapping[Level, Results]) -> None:
    cells = [cell for results in found.values() for cell in _curves(results)]
    ranks = [cell.rank for cell in cells if cell.rank]
    full = 2 * float(max(ranks, default=1))
    keys = [(level, rule) for level in found for rule in RULES]
    curves = {key: [cell for cell in _curves(found[key[0]]) if cell.config.rule == key[1]] for key in keys}
    drawn = [key for key in keys if curves[key]]
    for place, (level, rule) in enumerate(drawn):
        style, shift = len(RULES) * LEVELS.index(level) + RULES.index(rule), SHIFT * (place - (len(drawn) - 1) / 2)
        curve(ax, curves[level, rule], found[level], full, f"{rule}, level {level}", style, shift)
    level, results = next(iter(found.items()))
    interval = mean_interval(results.baseline.values())
    if interval.n > 1:
        half, label = interval.high - interval.estimate, f"95% interval of bp alone, level {level}"
        ax.axhspan(-half, half, color="0.25", alpha=0.12, linewidth=0, label=label)
    rank_axis(ax, ranks, full if any(cell.rank is None for cell in cells) else None)
    reference(ax, {})
    model = results.experiment.model
    ax.set(xlabel=XLABELS.get(model, "rank r of the feedback"))
    ax.set_title(f"{NETWORKS.get(model, model)}\n{cells[0].config.dataset}, {number_of_seeds(cells)}", fontsize=8)


FIGURE = draw
