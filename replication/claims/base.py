"""What a claim is: the records it reads, its statistic, its verdict."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, nan
from statistics import stdev
from typing import ClassVar

from bench.stats import MIN_SEEDS, Comparison, Interval, Verdict, compare, mean_interval, number, seeds_for
from replication.results import Results
from replication.stats import ClaimVerdict, all_of
from replication.tables import Table

FLOORS = {("mlp", "cpu"): 55.0, ("cnn", "cpu"): 65.0, ("vit", "cpu"): 50.0}
"""Mean test accuracy in percent below which backpropagation is too weak for a claim to be judged."""
FAILS = 5.0
"""Points below backpropagation that count as failing."""


@dataclass(frozen=True)
class Part:
    """One condition of a claim, and what the records say of it."""

    condition: str
    verdict: ClaimVerdict
    number: str
    """The number behind the verdict, with its interval."""
    n: int
    """Seeds behind it."""
    estimate: float
    """The number alone; NaN where there are several."""
    seeds_needed: int | None = None
    """Seeds that would settle it at this mean and spread; None where it is settled, or nothing would."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim: that of its parts together, unless a `remark` says why it is withheld."""

    parts: tuple[Part, ...]
    context: tuple[Part, ...] = ()
    """Conditions that the claim does not rest on, shown beside it."""
    remark: str = ""

    @property
    def verdict(self) -> ClaimVerdict:
        verdict = all_of([part.verdict for part in self.parts])
        return ClaimVerdict.INCONCLUSIVE if self.remark and verdict is not ClaimVerdict.NOT_RUN else verdict

    @property
    def n(self) -> int:
        """The fewest seeds behind any part."""
        return min((part.n for part in self.parts), default=0)


class Claim(ABC):
    """A claim of the paper."""

    title: ClassVar[str]
    statement: ClassVar[str]
    """What the paper says."""
    criterion: ClassVar[str]
    """When the claim counts as supported, in numbers."""
    experiment: ClassVar[str]
    figure: ClassVar[str]
    paper: ClassVar[tuple[str, ...]] = ()
    """The settings whose accuracy the paper's authors gave, of which the report shows the number."""
    deviations: ClassVar[tuple[str, ...]] = ()
    """How the runs differ from the paper's, beyond what their settings say."""

    @abstractmethod
    def judge(self, results: Results) -> Judgement:
        """The verdict by the records of the claim's experiment."""

    def details(self, results: Results) -> Table | None:
        """A table of the claim's own, beside that of its experiment."""
        return None


def judged(claim: Claim, results: Results) -> Judgement:
    """The verdict on a claim, withheld where its records are not all there or do not belong together."""
    judgement = claim.judge(results)
    return replace(judgement, remark=f"Not judged: {results.defect}.") if results.defect else judgement


def above(condition: str, comparison: Comparison, unit: str = " points") -> Part:
    """The part of a claim that says a difference lies above the negative of the comparison's margin."""
    return _compared(condition, comparison, "above", Verdict.MATCHES, Verdict.BELOW, unit)


def below(condition: str, comparison: Comparison) -> Part:
    """The part of a claim that says a difference lies below the negative of the comparison's margin."""
    return _compared(condition, comparison, "below", Verdict.BELOW, Verdict.MATCHES)


def fa_fails(results: Results) -> Part:
    """The part of a claim that says plain feedback alignment fails."""
    return below("fa minus bp, FA fails", compare(results.accuracy("fa"), results.accuracy("bp"), margin=FAILS))


def _compared(
    condition: str, comparison: Comparison, side: str, holds: Verdict, fails: Verdict, unit: str = " points"
) -> Part:
    verdicts = {
        holds: ClaimVerdict.SUPPORTED,
        fails: ClaimVerdict.NOT_SUPPORTED,
        Verdict.INCONCLUSIVE: ClaimVerdict.INCONCLUSIVE,
        Verdict.NOT_RUN: ClaimVerdict.NOT_RUN,
    }
    needed, interval = comparison.seeds_needed, comparison.interval
    text = f"{number(interval, '+.2f')}{unit}{_more_seeds(needed)}" if interval.n else ""
    limit = f"{condition} ({side} {0 - comparison.margin:g})"
    return Part(limit, verdicts[comparison.verdict], text, interval.n, interval.estimate, needed)


def _more_seeds(needed: int | None) -> str:
    return f"; about {needed} seeds would settle it at this mean and spread" if needed else ""


def bounded(
    condition: str, values: Iterable[float], *, below: float = inf, above: float = -inf, unit: str = ""
) -> Part:
    """The part that says a number lies below, or above, a limit: the whole 95% interval over seeds decides."""
    sample = list(values)
    part = within(condition, mean_interval(sample), below=below, above=above, unit=unit)
    if part.verdict is not ClaimVerdict.INCONCLUSIVE or part.n < 2:
        return part
    nearest = min(below, above, key=lambda limit: abs(part.estimate - limit))
    needed = seeds_for(stdev(sample), part.estimate, -nearest)
    return replace(part, number=part.number + _more_seeds(needed), seeds_needed=needed)


def within(condition: str, interval: Interval, *, below: float = inf, above: float = -inf, unit: str = "") -> Part:
    """As `bounded`, by an interval that is there already."""
    if not interval.n:
        verdict = ClaimVerdict.NOT_RUN
    elif interval.n < MIN_SEEDS:
        verdict = ClaimVerdict.INCONCLUSIVE
    elif interval.low > above and interval.high < below:
        verdict = ClaimVerdict.SUPPORTED
    elif interval.high < above or interval.low > below:
        verdict = ClaimVerdict.NOT_SUPPORTED
    else:
        verdict = ClaimVerdict.INCONCLUSIVE
    text = number(interval, ".3g") + unit if interval.n else ""
    return Part(condition, verdict, text, interval.n, interval.estimate)


def together(condition: str, parts: Sequence[Part], unit: str = "") -> Part:
    """Several parts as one: the range of their numbers, whose intervals are in the table of the experiment."""
    estimates = [part.estimate for part in parts if part.n]
    ends = dict.fromkeys(f"{end:.3g}" for end in (min(estimates), max(estimates))) if estimates else {}
    numbers = " to ".join(ends) + unit if ends else ""
    n = min((part.n for part in parts), default=0)
    verdict = all_of([part.verdict for part in parts])
    needed = [part.seeds_needed for part in parts if part.seeds_needed and verdict is ClaimVerdict.INCONCLUSIVE]
    seeds = max(needed, default=None)
    return Part(condition, verdict, f"{numbers}{_more_seeds(seeds)}", n, nan, seeds)


def floor_remark(results: Results) -> str:
    """Why no claim is judged, where backpropagation itself is far below its known level; empty where it is not."""
    floor = FLOORS.get((results.experiment.model, results.scale))
    accuracy = mean_interval(results.accuracy("bp").values())
    if floor is None or not accuracy.n or accuracy.estimate >= floor:
        return ""
    return f"Not judged: bp reaches {accuracy.estimate:.2f}%, below the floor of {floor:.0f}%."
