"""Test accuracy of the ViT over the rank of every linear layer's feedback (T1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures.base import level, over_rank, rank_axis, seeds_of
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """One curve a rule, backpropagation and each rule at full rank as lines."""
    figure = Figure(figsize=(5.2, 3.4))
    ax = figure.subplots()
    runs = seeds_of(results.cells)
    for style, (rule, dashes) in enumerate({"ldfa-track": "--", "ldfa": ":"}.items()):
        over_rank(ax, runs[runs["rule"] == rule], "accuracy", rule, style)
        level(ax, results.accuracy(rule, "full").values(), f"{rule} at full rank", dashes, color=f"C{style}")
    level(ax, results.accuracy("bp").values(), "bp", "-")
    rank_axis(ax, results.cells)
    ax.set(xlabel="rank r of the feedback of every linear layer", ylabel="test accuracy (%)")
    ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure, runs


FIGURE = draw
