"""The authors' numbers that could be recovered from their published plots and tables."""

from functools import cache
from pathlib import Path

import pandas as pd

from replication.results import Cell
from replication.verdicts import NOISE

PAPER = Path(__file__).with_name("paper_numbers.csv")
NETWORKS = {"mlp": "mlp-512x3", "retina": "retina-vvs", "vit": "vit-384x8"}
"""Names in that file of the networks for which it has backpropagation."""


def authors_row(experiment: str, cell: Cell) -> pd.Series | None:
    """Their accuracy for a setting, ignoring its dropout and its rule's options; None if they have none.

    `mean` and `std`, the standard deviation with n in its denominator, are in percent over `repeats` runs.
    """
    config, rows = cell.config, _accuracies()
    if set(cell.options) - set(config.rule_options) - {*NOISE}:
        return None
    layers, _, rank = (config.rank or "").rpartition("=")
    rows = rows[(rows.rule == config.rule) & (rows.dataset.str.removesuffix("-gray") == config.dataset)]
    if config.rule == "bp":
        rows = rows[rows.model == NETWORKS.get(config.model)]
    else:
        rows = rows[(rows.experiment == experiment) & (rows["rank"] == rank)]
        rows = rows[rows.constrained_layers == (layers or "all")]
    return None if rows.empty else rows.iloc[0]


def authors_experiments() -> list[str]:
    """The experiments for which the authors' accuracies are known."""
    return list(dict.fromkeys(_accuracies().experiment))


def spread(row: pd.Series) -> str:
    """A row as `mean ± sd (n)`."""
    return f"{row['mean']:.2f} ± {row['std']:.2f} (n = {row['repeats']})"


def authors_number(experiment: str, cell: Cell) -> str:
    """Their accuracy for a setting with the protocol's options only, as `spread`; empty if they have none."""
    row = None if cell.options else authors_row(experiment, cell)
    return "" if row is None else spread(row)


@cache
def _accuracies() -> pd.DataFrame:
    rows = pd.read_csv(PAPER, dtype={"rank": "string"}).fillna({"rank": "", "constrained_layers": ""})
    return rows[rows.metric == "test_accuracy_percent"]
