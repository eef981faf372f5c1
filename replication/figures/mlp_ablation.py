"""Test accuracy over rank if both, one or none of P and Q learn (A1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures._against_bp import over_the_rank
from replication.results import Results

LEARNS = {"ldfa": "P and Q learn", "ldfa-q": "Q learns", "ldfa-p": "P learns", "fa-lowrank": "both fixed"}


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A curve per rule, and one of `ldfa` whose output layer learns P from the error."""
    cells = results.cells
    curves = {
        f"{rule}: {what}": [cell for cell in cells if cell.config.rule == rule and not cell.options]
        for rule, what in LEARNS.items()
    }
    curves["ldfa, P of the output layer from the error"] = [cell for cell in cells if "output" in cell.options]
    return over_the_rank(results, curves, [], "rank r of every error channel")


FIGURE = draw
