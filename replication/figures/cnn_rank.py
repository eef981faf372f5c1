"""Training curves and test accuracy of the CNN over the rank of its feedback (C1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures.base import by_setting, over_training, seeds_of
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Left, accuracy on the training images of each epoch, as they are augmented; right, test accuracy at the end."""
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves = pd.DataFrame(
        [
            {"setting": cell.label, "seed": seed, "epoch": entry["epoch"], "accuracy": entry["accuracy"]}
            for cell in results.cells
            for seed, record in cell.records.items()
            if record["status"] == "ok"
            for entry in record["history"]
            if "accuracy" in entry
        ],
        columns=["setting", "seed", "epoch", "accuracy"],
    )
    over_training(left, curves, "epoch", "accuracy")
    left.set(xlabel="epoch", ylabel="training accuracy (%)")
    if len(curves):
        left.legend(frameon=False, fontsize=7)
    by_setting(right, results)
    return figure, pd.concat([seeds_of(results.cells), curves.assign(status="training")])


FIGURE = draw
