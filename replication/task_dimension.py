"""The rank of the feedback that is needed on tasks of d classes (N3).

A task consists of all disjoint groups of d classes of one dataset, on a network of one width. Its accuracy for a seed
is the mean over the groups, so that few test images per group do not hide a difference. Two statistics give the needed
rank.

r*: the smallest recorded rank from which on all ranks match backpropagation. It is known up to the grid: the needed
rank lies above the largest rank that is below backpropagation, and at or below r*. Each bound uses a 95% paired t
interval, not a bootstrap, which undercovers at 5 seeds. The margin of one point is absolute, and therefore stricter on
few classes, where accuracies are high, than on many: r* grows less with d than it would with a relative margin.

The crossing rank: the rank at which accuracy reaches a fixed fraction of that of backpropagation, by isotonic
regression of their ratio over the recorded ranks, interpolated linearly in log r. Each seed has one, so it
has a t interval over seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log

import numpy as np
from scipy.optimize import isotonic_regression

from bench.stats import Comparison, Interval, Verdict, compare, t_quantile
from replication.results import Pool, Results

FRACTION = 0.95
"""Fraction of the accuracy of backpropagation at the crossing rank."""
POWER = 0.8
"""Least power of "matches", if the rule is as good as backpropagation, for r* to be given."""

Accuracies = Mapping[int, float]
"""Percent by seed."""


@dataclass(frozen=True)
class NeededRank:
    """r* by the grid: `rank`, or None and the `reason`; `above` is the largest rank below backpropagation."""

    rank: int | None
    above: int | None
    reason: str = ""

    def __str__(self) -> str:
        return self.reason if self.rank is None else f"r* = {self.rank}, above {self.above or 0}"


@dataclass(frozen=True)
class Task:
    """`ldfa` at its recorded ranks and `bp`, on groups of `classes` classes, at one width."""

    classes: int
    width: int
    dataset: str
    bp: Accuracies
    ldfa: Mapping[int, Accuracies]
    """By rank, ascending."""
    full: Accuracies = field(default_factory=dict)
    """`ldfa` at full rank."""

    @cached_property
    def comparisons(self) -> dict[int, Comparison]:
        """Each rank against backpropagation."""
        return {rank: compare(accuracies, self.bp) for rank, accuracies in self.ldfa.items()}

    @property
    def needed(self) -> NeededRank:
        """r*, given if every rank that is not below backpropagation has enough power to match it."""
        found = self.comparisons
        below = [rank for rank, comparison in found.items() if comparison.verdict is Verdict.BELOW]
        above = max(below, default=None)
        if not found:
            return NeededRank(None, None, "r* is not given: no rank is run")
        weakest = min((c.power for r, c in found.items() if r not in below), default=1.0)
        if weakest < POWER:
            return NeededRank(None, above, f"r* is not given: a power of {weakest:.2f}")
        matching = None
        for rank, comparison in reversed(found.items()):
            if comparison.verdict is not Verdict.MATCHES:
                break
            matching = rank
        reason = "" if matching else f"r* is not given: r = {max(found)} does not match"
        return NeededRank(matching, above, reason)

    def ratios(self, rank: int) -> dict[int, float]:
        """Accuracy relative to backpropagation, by seed."""
        return {seed: accuracy / self.bp[seed] for seed, accuracy in self.ldfa[rank].items() if seed in self.bp}

    @property
    def crossing(self) -> dict[int, float]:
        """The crossing rank by seed; empty unless every seed of `bp` crosses between two recorded ranks."""
        found = {seed: rank for seed in self.bp if (rank := self._crossing(seed)) is not None}
        return found if len(found) == len(self.bp) else {}

    def _crossing(self, seed: int) -> float | None:
        """The crossing rank of a seed; None if no two recorded ranks enclose it, or the seed is missing at a rank."""
        if not self.ldfa or not all(seed in accuracies for accuracies in self.ldfa.values()):
            return None
        rising = isotonic_regression([self.ratios(rank)[seed] for rank in self.ldfa]).x
        above = int(np.searchsorted(rising, FRACTION))
        if not 0 < above < len(rising):
            return None
        around = slice(above - 1, above + 1)
        return float(np.exp(np.interp(FRACTION, rising[around], np.log([*self.ldfa])[around])))


def tasks(results: Results) -> list[Task]:
    """The tasks of the grid with a recorded `bp` run, by classes and width."""
    recorded = [pool for pool in results.pools if pool.accuracy]
    bp = {key_of(pool): pool.accuracy for pool in recorded if pool.config.rule == "bp"}
    ldfa: dict[tuple[int, int, str], dict[int, Accuracies]] = {task: {} for task in bp}
    others = [pool for pool in recorded if pool.config.rule == "ldfa" and key_of(pool) in bp]
    for pool in sorted((pool for pool in others if pool.rank), key=lambda pool: pool.rank or 0):
        assert isinstance(pool.rank, int), "every rank of the experiment is a number"
        ldfa[key_of(pool)][pool.rank] = pool.accuracy
    full = {key_of(pool): pool.accuracy for pool in others if not pool.rank}
    return [Task(*task, bp[task], ldfa[task], full.get(task, {})) for task in sorted(bp)]


def key_of(pool: Pool) -> tuple[int, int, str]:
    """Classes, width of the network, and dataset; every run of the experiment names its width."""
    return pool.classes, pool.config.model_options["width"], pool.dataset


def exponents(found: Sequence[Task]) -> tuple[dict[int, float], dict[int, float]]:
    """Exponents a of the classes and b of the width in r ~ d^a w^b, by seed, least squares on the crossing ranks.

    Both are empty if fewer than four tasks of the commonest dataset have a crossing rank for the same seeds, or if
    these tasks do not separate classes from width.
    """
    used = [task for task in _one_dataset(found) if task.crossing]
    design = _design(used)
    seeds = sorted(set.intersection(*(set(task.crossing) for task in used))) if used else []
    if design is None or not seeds:
        return {}, {}
    ranks = np.log([[task.crossing[seed] for seed in seeds] for task in used])
    _, by_classes, by_width = np.linalg.lstsq(design, ranks, rcond=None)[0]
    return dict(zip(seeds, by_classes.tolist(), strict=True)), dict(zip(seeds, by_width.tolist(), strict=True))


def exponents_of_needed(found: Sequence[Task]) -> tuple[Interval, Interval] | None:
    """The exponents of classes and width from r* of the tasks that have one, with the 95% t interval of the fit.

    The intervals are those of least squares with n tasks minus three degrees of freedom; they are rough, because r*
    comes from a grid of few ranks. None if fewer than four tasks have an r*, or if these tasks do not separate classes
    from width.
    """
    used = [task for task in _one_dataset(found) if task.needed.rank]
    design = _design(used)
    if design is None:
        return None
    ranks = np.log([task.needed.rank for task in used if task.needed.rank])
    solution = np.linalg.lstsq(design, ranks, rcond=None)[0]
    freedom = len(used) - design.shape[1]
    variance = np.square(ranks - design @ solution).sum() / freedom
    halves = t_quantile(freedom) * np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    by_classes, by_width = (
        Interval(float(value), float(value - half), float(value + half), len(used))
        for value, half in zip(solution[1:], halves[1:], strict=True)
    )
    return by_classes, by_width


def _one_dataset(found: Sequence[Task]) -> list[Task]:
    """The tasks of the commonest dataset: ranks on different images do not belong in one fit."""
    names = [task.dataset for task in found]
    return [task for task in found if task.dataset == max(names, key=names.count)]


def _design(used: Sequence[Task]) -> np.ndarray | None:
    """Rows 1, log d, log width; None if they do not determine three coefficients and an error."""
    rows = np.array([[1, log(task.classes), log(task.width)] for task in used]).reshape(-1, 3)
    return rows if len(used) > 3 and np.linalg.matrix_rank(rows) == 3 else None
