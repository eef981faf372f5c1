"""Test accuracy over the rank of direct feedback (N4)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures._against_bp import over_the_rank
from replication.results import Results

SOURCES = {"": "error of the output", "hidden": "error of the last hidden layer"}


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A curve per source of the error; direct rules without a rank, with the baseline `dfa`, in a separate panel."""
    ranked = [cell for cell in results.cells if cell.rank]
    curves = {
        f"ldfa-direct, {where}": [cell for cell in ranked if cell.config.rule_options.get("source", "") == source]
        for source, where in SOURCES.items()
    }
    others = [cell for cell in results.cells if not cell.config.rank and cell.config.rule != "bp"]
    return over_the_rank(results, curves, others, "rank r of the direct feedback")


FIGURE = draw
