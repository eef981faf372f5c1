"""Shared parts of the claims on the final loss of linear networks."""

from dataclasses import replace
from typing import Literal

from bench.records.runs import remaining_loss
from replication.claims.base import MORE, Part, bounded, together
from replication.results import Cell, Results

WRONG = 5.0
"""Remaining loss in percent above which a solution counts as wrong."""


def teachers(results: Results) -> list[str]:
    """The datasets of the grid."""
    return list(dict.fromkeys(cell.config.dataset for cell in results.cells))


def dimension(dataset: str) -> int:
    """The teacher's dimension s."""
    return int(dataset.partition(":")[2])


def cells_of(results: Results, rule: str, dataset: str, ranks: range) -> list[Cell]:
    """The cells of a rule on a teacher whose rank is in `ranks`."""
    of_rule = (c for c in results.cells if c.config.rule == rule and c.config.dataset == dataset)
    return [cell for cell in of_rule if cell.rank in ranks]


def losses(cell: Cell, otherwise: float = 100.0) -> list[float]:
    """The remaining loss of each run in percent, `otherwise` for a run that diverged or failed."""
    return [*cell.values(remaining_loss, otherwise).values()]


def group(
    results: Results, rule: str, dataset: str, ranks: range, side: Literal["above", "below"], limit: float
) -> Part:
    """The condition on the remaining loss in percent, at every rank of the grid in `ranks`.

    A run that diverged or failed counts against it.
    """
    cells = cells_of(results, rule, dataset, ranks)
    against = 0.0 if side == "above" else 100.0
    parts = [bounded(f"r = {cell.rank}", losses(cell, against), **{side: limit}, unit="%") for cell in cells]
    listed = ", ".join(str(cell.rank) for cell in cells)
    condition = f"{rule}, s = {dimension(dataset)}, r = {listed}: remaining loss {side} {limit:g}%"
    part = together(condition, parts, unit="%")
    if not part.n:
        return part
    deciding = (one for one in parts if one.verdict is part.verdict)
    nearest = min(deciding, key=lambda one: abs(one.estimate - limit))
    where = f" at {nearest.condition}, nearest to the limit" if len(parts) > 1 else ""
    number, more, seeds = nearest.number.partition(MORE)
    return replace(part, number=f"{number}{where}{more}{seeds}")
