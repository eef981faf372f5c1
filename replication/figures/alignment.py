"""Angles between the error and bp's and between feedback and W, and the energy that P keeps, over training (S1)."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.alignment import over_layers
from replication.claims.s1 import ANGLE, ENERGY
from replication.figures.base import legend, over_training
from replication.results import Results

MEASURES = {
    "error_angle": "angle between error and bp's (°)",
    "weight_angle": "angle between feedback and W (°)",
    "kept_energy": "share of the error's energy that P keeps",
}

LIMITS = {"error_angle": ANGLE, "kept_energy": ENERGY}
ENDS = (
    Line2D([], [], linewidth=0.4, color="0.4", label="one seed"),
    Line2D([], [], linestyle="", marker="|", markersize=9, color="0.2", label="95% interval at the end"),
)


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """One panel per measure, averaged over layers."""
    curves = pd.DataFrame(
        [
            {"setting": cell.label, "seed": seed, "epoch": entry["epoch"]}
            | {measure: over_layers(entry, measure) for measure in MEASURES}
            for cell in results.cells
            if cell.config.rule != "bp"
            for seed, record in cell.records.items()
            if record["status"] == "ok"
            for entry in record["history"]
            if "layers" in entry
        ],
        columns=["setting", "seed", "epoch", *MEASURES],
    )
    figure = Figure(figsize=(10.6, 3.2), layout="constrained")
    axes = figure.subplots(1, len(MEASURES))
    for ax, (measure, words) in zip(axes, MEASURES.items(), strict=True):
        over_training(ax, curves, "epoch", measure)
        ax.set(xlabel="epoch", ylabel=words)
        if measure in LIMITS:
            ax.axhline(LIMITS[measure], color="0.4", linestyle=(0, (1, 2)), linewidth=1, label="limit of S1")
    legend(figure, axes, *ENDS)
    return figure, curves


FIGURE = draw
