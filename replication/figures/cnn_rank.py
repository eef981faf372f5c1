"""Test accuracy of the CNN over the rank of its feedback (C1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures._against_bp import over_the_rank
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """`ldfa` over fractions of the channels; feedback alignment and an absolute rank in a separate panel."""
    ldfa = [cell for cell in results.cells if cell.config.rule == "ldfa" and not isinstance(cell.rank, int)]
    others = [cell for cell in results.cells if cell.config.rule != "bp" and cell not in ldfa]
    return over_the_rank(results, {"ldfa": ldfa}, others, "rank r of the feedback, as a fraction of the channels")


FIGURE = draw
