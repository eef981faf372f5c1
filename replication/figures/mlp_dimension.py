"""Dimension of the activity of each hidden layer over the rank of all error channels (H1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.claims.h1 import KEPT, LAYERS, MEASURES, dimension, over_bp
from replication.claims.n2 import narrow_network
from replication.figures.base import legend, level, over_rank, rank_axis, signs
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A panel per hidden layer: the ratio to bp of `ldfa` over rank up to full rank, and of narrow bp as a line."""
    bp, narrow = results.cell("bp"), narrow_network(results)
    ldfa = [cell for cell in results.cells if cell.config.rule == "ldfa" and not cell.options and cell.records]
    ranks = [cell.rank for cell in ldfa if cell.rank]
    full = 2.0 * max(ranks, default=1)
    numbers = pd.DataFrame(
        [
            {"setting": cell.label, "rule": cell.config.rule, "rank": cell.rank, "seed": seed, "layer": layer}
            | {measure: dimension(record, layer, measure) for measure in MEASURES}
            for cell in results.cells
            for seed, record in cell.records.items()
            if record["status"] == "ok" and "dimension" in record
            for layer in LAYERS
        ],
        columns=["setting", "rule", "rank", "seed", "layer", *MEASURES],
    )
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    axes = figure.subplots(1, len(LAYERS), sharey=True)
    for ax, (layer, where) in zip(axes, LAYERS.items(), strict=True):
        ratios = [(float(cell.rank or full), ratio) for cell in ldfa for ratio in over_bp(cell, bp, layer).values()]
        over_rank(ax, pd.DataFrame(ratios, columns=["rank", "ratio"]), "ratio", "ldfa", 0)
        level(ax, over_bp(narrow, bp, layer).values(), narrow.label, "--")
        ax.axhline(1, color="0.25", linewidth=1, label="bp", zorder=1)
        ax.axhline(KEPT, color="0.4", linestyle=(0, (1, 2)), linewidth=0.8, label=f"{KEPT:g}, the limit of H1")
        rank_axis(ax, ranks, full if any(cell.rank is None for cell in ldfa) else None)
        ax.set(xlabel="rank r of every error channel", title=f"{where} hidden layer", ylim=(0, None))
    axes[0].set_ylabel("dimension of the activity\nrelative to bp")
    legend(figure, axes, *signs())
    return figure, numbers


FIGURE = draw
