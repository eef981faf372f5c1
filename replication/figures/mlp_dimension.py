"""Dimension of the activity of each hidden layer over the rank of all error channels (H1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.claims.h1 import LAYERS, MEASURES, dimension
from replication.claims.n2 import narrow_network
from replication.figures.base import level, over_rank, rank_axis
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A panel a hidden layer: `ldfa` over rank, bp and narrow bp as lines."""
    runs = pd.DataFrame(
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
    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    axes = figure.subplots(1, len(LAYERS), sharey=True)
    lines = {results.cell("bp").label: "-", narrow_network(results).label: "--"}
    for ax, (layer, where) in zip(axes, LAYERS.items(), strict=True):
        here = runs[runs["layer"] == layer]
        over_rank(ax, here[here["rule"] == "ldfa"], "participation_ratio", "ldfa", 0)
        for label, dashes in lines.items():
            level(ax, here[here["setting"] == label]["participation_ratio"], label, dashes)
        rank_axis(ax, [cell for cell in results.cells if cell.config.rule == "ldfa"])
        ax.set(xlabel="rank r of every error channel", title=f"{where} hidden layer", ylim=(0, None))
    axes[0].set_ylabel("participation ratio of the activity")
    if len(runs):
        axes[0].legend(frameon=False, fontsize=7)
    return figure, runs


FIGURE = draw
