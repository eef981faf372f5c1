"""Test accuracy over the rank of one layer's error channel (N1)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.claims.n1 import LAYERS
from replication.figures._against_bp import over_the_rank
from replication.results import Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A curve per constrained layer; the rule with all layers at full rank in a separate panel."""
    curves = {
        f"ldfa, {layer} ({where})": [c for c in results.cells if (c.config.rank or "").startswith(f"{layer}=")]
        for layer, where in LAYERS.items()
    }
    return over_the_rank(results, curves, [results.cell("ldfa", "full")], "rank r of the constrained error channel")


FIGURE = draw
