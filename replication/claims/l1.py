"""L1: a linear network follows the theory's mode-by-mode dynamics, with low-rank feedback too."""

from collections.abc import Callable

import numpy as np

from bench.models.linear import BALANCED
from bench.records.store import Record
from replication.claims.base import Claim, Judgement, Part, bounded, told
from replication.predictions import largest_gap, ode, teacher_of, times
from replication.results import Cell, Results
from replication.theory import bp_mode, singular_values

LIMIT = 5.0
RULES = {"bp": None, "fa-lowrank": "8", "ldfa-q": "8", "ldfa": "8"}
"""Rules and their ranks."""


class LinearDynamics(Claim):
    title = "Linear network, dynamics"
    statement = (
        "A linear network under gradient descent learns the teacher's modes as the theory predicts, with the true "
        "gradient and with low-rank feedback."
    )
    asks = "whether a linear network learns mode by mode as the theory predicts, with low-rank feedback too"
    finds = (
        "A linear network learns its task mode by mode as the theory predicts, with the true gradient and with "
        "low-rank feedback."
    )
    criterion = (
        "At every 25th step, the strength of every mode differs from the prediction by less than 5% of the teacher's "
        "largest singular value. The prediction is the matrix ODE for `bp` and for the low-rank rules at r = 8, and "
        "the one-mode solution for `bp` from a balanced start. The 95% interval over seeds of the largest difference "
        "lies below 5%."
    )
    experiments = ("linear",)
    figure = "linear-modes"
    deviations = (
        "The authors' run uses r = 2, the rule `ldfa-track` and a feedback rate that decays by a factor of 0.999 per "
        "step; here the feedback learns at the rate of the weights. The 100,000 samples enter only through their "
        "first and second moments, on which alone full-batch descent depends.",
    )

    def reads(self, results: Results) -> list[Cell]:
        return [*cells_of_rules(results), *balanced_cells(results)]

    def judge(self, results: Results) -> Judgement:
        cells, balanced = cells_of_rules(results), balanced_cells(results)
        parts = [_gap(cell, "the matrix ODE", lambda record: ode(record).modes) for cell in cells]
        parts += [_gap(cell, "the one-mode solution", one_mode) for cell in balanced]
        return Judgement(tuple(parts))


def cells_of_rules(results: Results) -> list[Cell]:
    """The cells of the rules, on each teacher."""
    cells = [c for c in results.cells if not c.options]
    return [c for rule, rank in RULES.items() for c in cells if (c.config.rule, c.config.rank) == (rule, rank)]


def balanced_cells(results: Results) -> list[Cell]:
    """`bp` from a balanced start."""
    return [cell for cell in results.cells if cell.options == {"start": "balanced"}]


def one_mode(record: Record) -> np.ndarray:
    """The decoupled solution of each mode from the balanced start, (times, modes)."""
    s = singular_values(teacher_of(record))
    return bp_mode(s, BALANCED, record["config"]["lr"], times(record)[:, None])


def _gap(cell: Cell, theory: str, predict: Callable[[Record], np.ndarray]) -> Part:
    gaps = cell.values(lambda record: largest_gap(record, predict(record)), otherwise=100.0)
    condition = f"{cell.label} on {cell.config.dataset} stays within {LIMIT:g}% of {theory}"
    part = bounded(condition, gaps.values(), below=LIMIT, unit="%")
    network = f"a linear network under `{cell.config.rule}`"
    return told(
        part,
        f"{network} deviates from the theory by more than {LIMIT:g}%",
        f"{network} stays within {LIMIT:g}% of the theory",
    )


CLAIM = LinearDynamics()
