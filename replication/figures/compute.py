"""Test accuracy over the compute of training on the MLP (context of E1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.compute import SHARES, curve, flops, seconds
from replication.figures.base import over_training
from replication.results import Results

COSTS = {"flops": "training compute (FLOPs)", "seconds": "measured training time (s)"}


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Accuracy over FLOPs and over seconds: dotted are the shares of bp's final accuracy."""
    runs = pd.DataFrame(
        [
            {"setting": cell.label, "seed": seed, "epoch": epoch, "accuracy": accuracy}
            | {name: cost * epoch / record["config"]["epochs"] for name, cost in costs.items()}
            for cell in results.cells
            for seed, record in cell.records.items()
            if record["status"] == "ok" and (costs := {"flops": flops(record), "seconds": seconds(record)})
            for epoch, accuracy in curve(record)
        ],
        columns=["setting", "seed", "epoch", "accuracy", *COSTS],
    )
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    axes = figure.subplots(1, len(COSTS), sharey=True)
    baseline = list(results.accuracy("bp").values())
    for ax, (cost, words) in zip(axes, COSTS.items(), strict=True):
        over_training(ax, runs, cost, "accuracy")
        for share in SHARES if baseline else ():
            goal = share * sum(baseline) / len(baseline)
            ax.axhline(goal, color="0.6", linestyle=":", linewidth=0.8)
            ax.annotate(
                f"{share:.0%}", (1, goal), xycoords=("axes fraction", "data"), fontsize=6, va="bottom", ha="right"
            )
        ax.set(xlabel=words)
    axes[0].set_ylabel("test accuracy (%)")
    if len(runs):
        axes[0].legend(frameon=False, fontsize=7)
    return figure, runs


FIGURE = draw
