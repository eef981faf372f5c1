"""Angles between the error and bp's and between feedback and W, and the energy that P keeps, over training (S1)."""

from inspect import signature
from statistics import fmean

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.data import sizes
from bench.models.mlp import MLP
from replication.alignment import over_layers
from replication.claims.s1 import ANGLE, ENERGY
from replication.figures.base import legend, over_training
from replication.results import Cell, Results

MEASURES = {
    "error_angle": "angle between error and bp's (°)",
    "weight_angle": "angle between feedback and W (°)",
    "kept_energy": "share of energy that P keeps\n(all layers)",
    "kept_where_cut": "share of energy that P keeps\n(layers that are cut)",
}
LIMITS = {"error_angle": ANGLE, "kept_energy": ENERGY}
WIDTH = signature(MLP).parameters["width"].default
ENDS = (
    Line2D([], [], linewidth=0.4, color="0.4", label="one seed"),
    Line2D([], [], linestyle="", marker="|", markersize=9, color="0.2", label="95% interval at the end"),
)


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """One panel per measure, averaged over layers, with its value for random feedback.

    The output layer has so few outputs that its P may keep all energy; the last panel leaves out such layers.
    """
    cells = [cell for cell in results.cells if cell.config.rule != "bp" and cell.records]
    curves = pd.DataFrame(
        [
            {"setting": cell.label, "seed": seed, "epoch": entry["epoch"]}
            | {measure: over_layers(entry, measure) for measure in ("error_angle", "weight_angle", "kept_energy")}
            | {"kept_where_cut": over_layers(entry, "kept_energy", _where_cut(cell))}
            for cell in cells
            for seed, record in cell.records.items()
            if record["status"] == "ok"
            for entry in record["history"]
            if "layers" in entry
        ],
        columns=["setting", "seed", "epoch", *MEASURES],
    )
    random = [shares for cell in cells if (shares := _random(cell))]
    chance = {
        "error_angle": {90.0},
        "weight_angle": {90.0},
        "kept_energy": {fmean(shares.values()) for shares in random},
        "kept_where_cut": {share for shares in random for share in shares.values() if share < 1},
    }
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    axes = figure.subplots(2, 2).flatten()
    for ax, (measure, words) in zip(axes, MEASURES.items(), strict=True):
        over_training(ax, curves, measure)
        ax.set(xlabel="epoch", ylabel=words)
        for value in sorted(chance[measure]):
            ax.axhline(value, color="0.6", linestyle="--", linewidth=0.8, label="random feedback", zorder=0)
        if measure in LIMITS:
            ax.axhline(LIMITS[measure], color="0.4", linestyle=(0, (1, 2)), linewidth=1, label="limit of S1")
    legend(figure, axes, *ENDS)
    return figure, curves


def _random(cell: Cell) -> dict[str, float]:
    """The share of energy that a random P keeps, by layer: its rank over the outputs; empty without a rank."""
    width = cell.config.model_options.get("width", WIDTH)
    outputs = {"B1": width, "B2": width, "B3": sizes(cell.config.dataset).outputs}
    return {layer: min(1.0, cell.rank / n) for layer, n in outputs.items()} if cell.rank else {}


def _where_cut(cell: Cell) -> list[str]:
    """The layers where not every P of this rank keeps all energy."""
    return [layer for layer, share in _random(cell).items() if share < 1]


FIGURE = draw
