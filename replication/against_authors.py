"""Our runs at the authors' settings beside their numbers: at the best epoch, as theirs, and at the last, as judged."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, nan, sqrt
from statistics import fmean, stdev

import pandas as pd

from bench.records.runs import chance, values
from bench.records.store import Record
from bench.stats import Interval, mean_interval, number, t_quantile
from replication.authors import PAPER, authors_row, spread
from replication.curves import accuracies
from replication.results import Cell, Results
from replication.tables import Table, columns, pipe_table
from replication.verdicts import Level

TEXT = f"""\
## Against the authors' numbers

Every setting of `replication/{PAPER.name}` that is recorded at scale `paper`. The authors report each run's best test
accuracy over all epochs, so accuracies are compared at the best epoch; verdicts use the last epoch. Their number is
the mean of their ten best runs, ours that of all runs. The difference from theirs has Welch's 95% interval. The
difference from backpropagation is paired by seed for our runs and unpaired for theirs. It is not known which dropout
their published results used, so both are shown.
"""
NONE = "No such setting is recorded yet.\n"


@dataclass(frozen=True)
class Compared:
    """One of our settings with the authors' row for it, and the baselines of both."""

    cell: Cell
    theirs: pd.Series
    bp: Cell
    """Our backpropagation with the same network."""
    their_bp: pd.Series


def section(table: Table) -> str:
    """The section of the report."""
    return f"{TEXT}\n{NONE if table.text.empty else pipe_table(table.text)}"


def table(grids: Iterable[Results]) -> Table:
    """A row per setting of theirs that is recorded in grids of scale `paper`, at each dropout and kind of feedback."""
    numbers, text = [], []
    for compared in _compared(grids):
        cell, theirs = compared.cell, compared.theirs
        best, best_bp = _best(cell), _best(compared.bp)
        level, last = mean_interval(best.values()), mean_interval(cell.accuracy.values())
        gap = welch(best.values(), theirs)
        within = abs(gap.estimate) <= 2 * theirs["std"]
        lost = mean_interval(best[seed] - best_bp[seed] for seed in sorted(best.keys() & best_bp.keys()))
        they_lose = theirs["mean"] - compared.their_bp["mean"]
        is_bp = cell.config.rule == "bp"
        numbers.append(
            {"model": cell.config.model, "setting": cell.label, "n": level.n}
            | {"authors": theirs["mean"], "authors_sd": theirs["std"], "authors_n": theirs["repeats"]}
            | columns("best_epoch", level)
            | columns("last_epoch", last)
            | columns("minus_authors", gap)
            | {"within_two_sd": within}
            | ({} if is_bp else {"authors_minus_bp": they_lose} | columns("minus_bp", lost))
        )
        text.append(
            {
                "setting": f"{cell.config.model} `{cell.label}`",
                "n": level.n,
                "authors (%)": spread(theirs),
                "best epoch (%)": number(level),
                "last epoch (%)": number(last),
                "best epoch minus theirs (points)": number(gap, "+.2f"),
                "within 2 sd of theirs": "yes" if within else "no",
                "minus bp, authors": "" if is_bp else f"{they_lose:+.2f}",
                "minus bp, best epoch": "" if is_bp else number(lost, "+.2f"),
            }
        )
    return Table(pd.DataFrame(numbers), pd.DataFrame(text))


def beside_authors(grid: Results) -> str:
    """How far our settings are from the authors' accuracies at the best epoch; empty if none is recorded."""
    gaps = [
        f"`{compared.cell.label}` {number(welch(_best(compared.cell).values(), compared.theirs), '+.2f')}"
        for compared in _compared([grid])
    ]
    return f"Points from the authors' accuracy at the best epoch, as they report it: {', '.join(gaps)}." if gaps else ""


def welch(ours: Iterable[float], theirs: pd.Series) -> Interval:
    """The mean of ours minus theirs with Welch's 95% interval, infinite below two values.

    With v = s² / n of each sample, half its width is t(f) sqrt(v1 + v2), where the degrees of freedom are f =
    (v1 + v2)² / (v1² / (n1 - 1) + v2² / (n2 - 1)). The authors' s² has n in its denominator and is corrected to n - 1.
    """
    sample, n = list(ours), theirs["repeats"]
    gap = fmean(sample) - theirs["mean"] if sample else nan
    if len(sample) < 2:
        return Interval(gap, -inf, inf, len(sample))
    our_part, their_part = stdev(sample) ** 2 / len(sample), theirs["std"] ** 2 / (n - 1)
    freedom = (our_part + their_part) ** 2 / (our_part**2 / (len(sample) - 1) + their_part**2 / (n - 1))
    half = float(t_quantile(freedom)) * sqrt(our_part + their_part)
    return Interval(gap, gap - half, gap + half, len(sample))


def best_accuracy(record: Record) -> float:
    """The highest test accuracy of a run in percent, over the tested epochs and the last."""
    return max(accuracy for _, accuracy in accuracies(record))


def _best(cell: Cell) -> dict[int, float]:
    return values(cell.records, best_accuracy, chance(cell.config.dataset))


def _compared(grids: Iterable[Results]) -> Iterator[Compared]:
    seen = set()
    for grid in grids:
        for cell in grid.cells:
            theirs = authors_row(grid.experiment.name, cell)
            if theirs is None or not cell.records or cell.level is not Level.PAPER or cell.config.digest in seen:
                continue
            seen.add(cell.config.digest)
            bp = grid.bp_on_network_of(cell)
            assert bp is not None
            yield Compared(cell, theirs, bp, authors_row(grid.experiment.name, bp))
