"""Claims: the records that one reads, its statistic, its verdict."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar

from bench.models import MODELS
from bench.records.source import is_uncommitted, shown
from bench.stats import MIN_SEEDS, Comparison, Interval, Verdict, compare, mean_interval, number, seeds_for
from bench.sweeps.experiments import experiment
from replication.results import FOLDER, LARGEST_FIRST, Cell, Results, mixture, pooled, recorded_scales, results
from replication.tables import Table
from replication.verdicts import ClaimVerdict, Level, all_of, lowest

FLOORS = {("mlp", "cpu"): 55.0, ("cnn", "cpu"): 65.0, ("vit", "cpu"): 50.0}
"""Mean test accuracy in percent below which backpropagation is too weak for a claim to be judged."""
FAILING = 5.0
"""Points below backpropagation that count as failing."""
ODD = 2.0
"""Distance of a seed from all others, in ranges of these, from which a note names it."""
MORE = "; about "
"""Follows a number that more seeds would settle."""


@dataclass(frozen=True)
class Part:
    """One condition of a claim, and its verdict by the records."""

    condition: str
    verdict: ClaimVerdict
    number: str
    """The number behind the verdict, with its interval."""
    n: int
    """Seeds behind it."""
    estimate: float
    """The number without its interval; NaN if there are several."""
    seeds_needed: int | None = None
    """Seeds that would settle it at this mean and spread; None if it is settled, or no number of seeds would."""
    level: Level | None = None
    """Its own level of evidence, if it does not depend on the claim's runs."""
    fails: str = ""
    """A clause in plain words for the case that it fails."""
    holds: str = ""
    """A clause for the case that it holds while another part does not, or that it is not settled whether it does."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim: that of all its parts, unless a `remark` says why it is withheld."""

    parts: tuple[Part, ...]
    context: tuple[Part, ...] = ()
    """Conditions that do not affect the verdict, shown as context."""
    remark: str = ""
    shares: tuple[str, ...] = ()
    """Sentences on what of a loss is the rank's and what is the rule's."""
    notes: tuple[str, ...] = ()
    """Other sentences on the numbers."""
    level: Level = Level.REDUCED
    """The lowest level of the runs that the criterion reads."""

    @property
    def verdict(self) -> ClaimVerdict:
        """The verdict; without runs `NOT_RUN`, whatever the parts that need no runs say."""
        trained = all_of([part.verdict for part in self._trained])
        if trained in (ClaimVerdict.NOT_RUN, ClaimVerdict.TOO_FEW):
            return trained
        return ClaimVerdict.OPEN if self.remark else all_of([part.verdict for part in self.parts])

    @property
    def words(self) -> str:
        """The verdict in the words of the runs' level."""
        return self.verdict.words(self.level)

    def words_of(self, part: Part) -> str:
        """The verdict on a part in the words of its own level, or of the runs'."""
        return part.verdict.words(part.level or self.level)

    @property
    def deciding(self) -> Part:
        """The part that the summary shows: the first that depends on runs and has the verdict of the claim."""
        return next((part for part in self._trained if part.verdict is self.verdict), self._trained[0])

    @property
    def n(self) -> int:
        """The fewest seeds of any part that depends on runs."""
        return min((part.n for part in self._trained), default=0)

    @property
    def _trained(self) -> list[Part]:
        return [part for part in self.parts if part.level is None]


class Claim(ABC):
    """A claim of the paper."""

    title: ClassVar[str]
    statement: ClassVar[str]
    """The claim in the paper."""
    asks: ClassVar[str]
    """The question that the verdict answers, from "whether" on, in plain words."""
    finds: ClassVar[str]
    """The finding if the claim holds: one sentence in plain words."""
    criterion: ClassVar[str]
    """When the claim holds, in numbers."""
    experiments: ClassVar[tuple[str, ...]]
    """The experiments whose records it reads, all at one scale; the methods take their `Results` in this order."""
    figure: ClassVar[str]
    paper: ClassVar[tuple[tuple[str, str | None], ...]] = ()
    """Rule and rank of the settings for which the report shows the authors' accuracy."""
    deviations: ClassVar[tuple[str, ...]] = ()
    """How the runs differ from the paper's, apart from their listed settings."""

    # A claim names its `Results` one by one; these signatures stand for any number of them.

    @abstractmethod
    def reads(self, *found: Any, **named: Any) -> Sequence[Cell]:
        """The settings that the criterion reads: the claim is judged if all have `MIN_SEEDS` seeds."""

    @abstractmethod
    def judge(self, *found: Any, **named: Any) -> Judgement:
        """The judgement by the records of the claim's experiments."""

    def details(self, *found: Any, **named: Any) -> Table | None:
        """The claim's own table, in addition to that of its experiment; None if it has none."""
        return None

    def says(self, judgement: Judgement) -> str:
        """The verdict as one sentence in plain words, with what was seen if the claim does not hold."""
        seen = self.seen(judgement)
        match judgement.verdict:
            case ClaimVerdict.NOT_RUN:
                return f"Not run yet: {self.asks}."
            case ClaimVerdict.TOO_FEW:
                return f"Too few seeds to say {self.asks}."
            case ClaimVerdict.OPEN:
                return f"It is open {self.asks}{seen and f': {seen}'}."
            case ClaimVerdict.FAILS:
                return f"The paper says: {self.statement} Here this does not hold: {seen}."
        return self.finds

    def seen(self, judgement: Judgement) -> str:
        """What the runs showed if the claim fails or is open: which parts do or are, and which hold.

        Clauses, with the number of each open part; none for another verdict, or if a remark says why it is open.
        """
        of = {verdict: [part for part in judgement.parts if part.verdict is verdict] for verdict in ClaimVerdict}
        holds = listed(dict.fromkeys(part.holds for part in of[ClaimVerdict.HOLDS]), ", and ")
        but = f", but {holds}" if holds else ""
        if judgement.verdict is ClaimVerdict.FAILS:
            return listed(dict.fromkeys(part.fails for part in of[ClaimVerdict.FAILS]), ", and ") + but
        if judgement.verdict is ClaimVerdict.OPEN and not judgement.remark:
            numbers: dict[str, list[str]] = {}
            for part in of[ClaimVerdict.OPEN]:
                numbers.setdefault(part.holds, []).append(part.number.partition(MORE)[0])
            unsettled = listed((f"whether {clause} ({'; '.join(n)})" for clause, n in numbers.items()), ", and ")
            return f"it is not settled {unsettled}{but}"
        return ""


def listed(words: Iterable[str], before_last: str = " and ") -> str:
    """The words or clauses with commas between them, and `before_last` before the last."""
    *others, last = [*words] or [""]
    return f"{', '.join(others)}{before_last}{last}" if others else last


def results_for(claim: Claim, folder: Path = FOLDER) -> tuple[Results, ...]:
    """The records that a claim is judged by: those of its experiments at one scale.

    Of the scales at which every setting that its criterion reads has `MIN_SEEDS` seeds, the one whose runs have the
    highest level, then the largest; if there is none, the most complete scale.
    """

    def place(found: tuple[Results, ...]) -> tuple[bool, int, float]:
        reads = claim.reads(*found)
        whole = all(cell.enough for cell in reads)
        level = -[*Level].index(lowest(cell.level for cell in reads)) if whole else 0
        return whole, level, fmean(min(len(cell.records), MIN_SEEDS) for cell in reads)

    scales = [s for s in LARGEST_FIRST if all(s in experiment(name).scales for name in claim.experiments)]
    kept = [scale for scale in scales if scale in recorded_scales(folder)] or scales[:1]
    return max((tuple(results(name, scale, folder) for name in claim.experiments) for scale in kept), key=place)


def judged(claim: Claim, *found: Results) -> Judgement:
    """The verdict on a claim, with its level; withheld if the records that it reads must not be compared."""
    reads = claim.reads(*found)
    judgement = claim.judge(*found)
    odd = odd_seeds(cell for cell in reads if not MODELS.get(cell.config.model).regression)
    mixed, of_all = mixture(reads), mixture(cell for each in found for cell in each.cells)
    beside = () if mixed or not of_all else (f"Among all settings, {of_all}; the judged ones share a device.",)
    notes = tuple(dict.fromkeys((*judgement.notes, *odd, *beside, *_uncommitted(reads))))
    judgement = replace(judgement, notes=notes, level=lowest(cell.level for cell in reads))
    return replace(judgement, remark=f"Not judged: {mixed}.") if mixed else judgement


def _uncommitted(cells: Sequence[Cell]) -> tuple[str, ...]:
    """A note on the runs of code with uncommitted changes; none if there are none."""
    sources = [r["source"] for cell in cells for r in cell.records.values() if "source" in r]
    if not (changed := [shown(source) for source in sources if is_uncommitted(source)]):
        return ()
    return (
        f"{len(changed)} of {len(sources)} runs are of code with uncommitted changes ({listed(sorted({*changed}))}).",
    )


def told(part: Part, fails: str, holds: str) -> Part:
    """The part with its clauses in plain words: if it fails, and if it holds or is open while others are not."""
    return replace(part, fails=fails, holds=holds)


def told_together(parts: Mapping[str, Part], fails: str, holds: str) -> list[Part]:
    """The parts by name with their clauses, in which `{}` stands for the names of all with the same verdict."""

    def alike(part: Part) -> str:
        return listed(name for name, other in parts.items() if other.verdict is part.verdict)

    return [told(part, fails.format(alike(part)), holds.format(alike(part))) for part in parts.values()]


def above(condition: str, comparison: Comparison, unit: str = " points") -> Part:
    """The part of a claim that says a difference lies above the negative of the comparison's margin."""
    return _compared(condition, comparison, "above", Verdict.MATCHES, Verdict.BELOW, unit)


def below(condition: str, comparison: Comparison) -> Part:
    """The part of a claim that says a difference lies below the negative of the comparison's margin."""
    return _compared(condition, comparison, "below", Verdict.BELOW, Verdict.MATCHES)


def fa_fails(results: Results) -> Part:
    """The part of a claim that says plain feedback alignment fails."""
    return below("fa minus bp, FA fails", compare(results.accuracy("fa"), results.accuracy("bp"), margin=FAILING))


def rank_or_rule(low: Sequence[Cell], full: Cell, bp: Cell) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """The losses of a rule at low ranks against `bp`, split in two: the rank's (against full rank), and the rule's.

    A part for each low rank, then the rule's; a sentence on the rule's and the ranks', with an odd seed at full rank,
    or that full rank is not run; none without runs at a low rank.
    """
    rule = compare(full.accuracy, bp.accuracy)
    ranks = {cell.label: compare(cell.accuracy, full.accuracy) for cell in low}
    parts = (
        *(above(f"{label} minus {full.label}: due to the rank", rank) for label, rank in ranks.items()),
        above(f"{full.label} minus bp: due to the rule", rule),
    )
    changes = [f"`{label}` {number(r.interval, '+.2f')}" for label, r in ranks.items() if r.interval.n]
    if changes and rule.interval.n:
        said = f"At the rates used, the rule's part, `{full.label}` minus `bp`: {number(rule.interval, '+.2f')} points"
        return parts, (f"{said}; the rank's part, minus full rank: {', '.join(changes)}.", *odd_seeds([full]))
    lost = any(cell.records for cell in low) and bool(bp.records)
    return parts, (f"`{full.label}` is not run here, so the rank's part is not known.",) if lost else ()


def odd_seeds(cells: Iterable[Cell]) -> tuple[str, ...]:
    """A note for each setting of which one seed's accuracy is over a point and `ODD` ranges away from all others."""
    notes = []
    for pool in pooled(cells):
        setting = f"{pool.label} on {pool.config.dataset.partition('@')[0]}"
        ranked = sorted(pool.accuracy.items(), key=lambda item: item[1])
        for (seed, odd), others in ((ranked[0], ranked[1:]), (ranked[-1], ranked[:-1])) if len(ranked) > 2 else ():
            low, high = others[0][1], others[-1][1]
            if min(abs(odd - low), abs(odd - high)) > max(1.0, ODD * (high - low)):
                rest = f"the others between {low:.1f} and {high:.1f}%"
                notes.append(f"Seed {seed} of {setting} ends at {odd:.1f}%, {rest}.")
    return tuple(notes)


def _compared(
    condition: str, comparison: Comparison, side: str, holds: Verdict, fails: Verdict, unit: str = " points"
) -> Part:
    verdicts = {
        holds: ClaimVerdict.HOLDS,
        fails: ClaimVerdict.FAILS,
        Verdict.INCONCLUSIVE: ClaimVerdict.OPEN,
        Verdict.TOO_FEW: ClaimVerdict.TOO_FEW,
        Verdict.NOT_RUN: ClaimVerdict.NOT_RUN,
    }
    needed, interval = comparison.seeds_needed, comparison.interval
    text = f"{number(interval, '+.2f')}{unit}{_more_seeds(needed)}" if interval.n else ""
    limit = f"{condition} (limit: {side} {0 - comparison.margin:g})"
    return Part(limit, verdicts[comparison.verdict], text, interval.n, interval.estimate, needed)


def _more_seeds(needed: int | None) -> str:
    return f"{MORE}{needed} seeds would settle it at this mean and spread" if needed else ""


def bounded(
    condition: str, values: Iterable[float], *, below: float = inf, above: float = -inf, unit: str = ""
) -> Part:
    """The part that says a number lies below or above a limit, decided by the whole 95% interval over seeds."""
    sample = list(values)
    part = within(condition, mean_interval(sample), below=below, above=above, unit=unit)
    if part.verdict not in (ClaimVerdict.OPEN, ClaimVerdict.TOO_FEW) or part.n < 2:
        return part
    nearest = min(below, above, key=lambda limit: abs(part.estimate - limit))
    needed = seeds_for(stdev(sample), part.estimate, -nearest)
    return replace(part, number=part.number + _more_seeds(needed), seeds_needed=needed)


def within(condition: str, interval: Interval, *, below: float = inf, above: float = -inf, unit: str = "") -> Part:
    """As `bounded`, for a given interval."""
    if not interval.n:
        verdict = ClaimVerdict.NOT_RUN
    elif interval.n < MIN_SEEDS:
        verdict = ClaimVerdict.TOO_FEW
    elif interval.low > above and interval.high < below:
        verdict = ClaimVerdict.HOLDS
    elif interval.high < above or interval.low > below:
        verdict = ClaimVerdict.FAILS
    else:
        verdict = ClaimVerdict.OPEN
    text = number(interval, ".3g") + unit if interval.n else ""
    return Part(condition, verdict, text, interval.n, interval.estimate)


def together(condition: str, parts: Sequence[Part], unit: str = "") -> Part:
    """Several parts as one: the range of their numbers; the intervals are in the table of the experiment."""
    estimates = [part.estimate for part in parts if part.n]
    ends = dict.fromkeys(f"{end:.3g}" for end in (min(estimates), max(estimates))) if estimates else {}
    numbers = " to ".join(ends) + unit if ends else ""
    n = min((part.n for part in parts), default=0)
    verdict = all_of([part.verdict for part in parts])
    needed = [part.seeds_needed for part in parts if part.seeds_needed and verdict is ClaimVerdict.OPEN]
    seeds = max(needed, default=None)
    return Part(condition, verdict, f"{numbers}{_more_seeds(seeds)}", n, nan, seeds)


def agreeing(condition: str, parts: Sequence[Part]) -> Part:
    """One condition on several kinds of runs: settled if all agree, else open, with the number of each."""
    verdicts = {part.verdict for part in parts}
    unfinished = verdicts & {ClaimVerdict.NOT_RUN, ClaimVerdict.TOO_FEW}
    verdict = all_of(unfinished or verdicts) if unfinished or len(verdicts) == 1 else ClaimVerdict.OPEN
    numbers = "; ".join(f"{part.condition}: {part.number or 'no runs'}" for part in parts)
    return Part(condition, verdict, numbers, min(part.n for part in parts), nan)


def floor_remark(results: Results) -> str:
    """Why no claim is judged if backpropagation itself is far below its known level; empty if it is not."""
    floor = FLOORS.get((results.experiment.model, results.scale))
    accuracy = mean_interval(results.accuracy("bp").values())
    if floor is None or not accuracy.n or accuracy.estimate >= floor:
        return ""
    return f"Not judged: bp reaches {accuracy.estimate:.2f}%, below the floor of {floor:.0f}%."
