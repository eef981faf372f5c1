"""Test accuracy over the rank of all error channels, with rules without a rank and narrow networks (N2)."""

import pandas as pd
from matplotlib.figure import Figure

from replication.figures._against_bp import over_the_rank
from replication.results import Cell, Results


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """The curve of `ldfa` on the network of the protocol; other rules and networks in a separate panel."""
    plain = [cell for cell in results.cells if not cell.options]
    curves = {"ldfa": [cell for cell in plain if cell.config.rule == "ldfa"]}
    beside = [cell for cell in plain if cell.config.rank is None and cell.config.rule != "bp"]
    beside += sorted((cell for cell in results.cells if cell.options), key=_width)
    return over_the_rank(results, curves, beside, "rank r of every error channel")


def _width(cell: Cell) -> int:
    return cell.options.get("width", 0)


FIGURE = draw
