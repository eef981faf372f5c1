"""Test accuracy of the ViT over the rank of every linear layer's feedback (T1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures._against_bp import over_the_rank
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A curve per rule."""
    curves = {rule: [c for c in results.cells if c.config.rule == rule] for rule in ("ldfa-track", "ldfa")}
    return over_the_rank(results, curves, [], "rank r of the feedback of every linear layer")


FIGURE = draw
