"""N3: the needed rank follows the dimension of the task, not the width of the network."""

from dataclasses import replace
from math import exp, log, nan
from statistics import fmean

from bench.stats import Interval, compare, mean_interval, number
from replication.claims.base import Claim, Judgement, Part, above, bounded, listed, told, within
from replication.results import Cell, Results
from replication.task_dimension import FRACTION, Task, exponents, exponents_of_needed, tasks
from replication.verdicts import ClaimVerdict

FOLLOWS = 0.5
"""Exponent on the classes above which the needed rank follows them."""
IGNORES = 0.25
"""Absolute exponent on the width below which the needed rank does not follow it: 19% per doubling."""
ORDER = 2.5
"""Multiple of d up to which r* is of the order of d."""
TRAINED = 3.0
"""Multiple of chance that backpropagation must reach on every task."""


class TaskDimension(Claim):
    title = "MLP, rank needed over the number of classes"
    statement = (
        "With the error channels of all layers cut at once, the rank r that the MLP needs grows with the number of "
        "classes d, not with the width of the network."
    )
    asks = "whether the rank that an MLP needs grows with the number of classes, not with its width"
    finds = "The rank of the error that an MLP needs grows with the number of classes, not with its width."
    criterion = (
        f"The needed rank of a seed is the one at which `ldfa` reaches {FRACTION:.0%} of the accuracy of `bp` with "
        "that seed, by an isotonic fit over recorded ranks, interpolated in log r. It is fitted as r ~ d^a width^b "
        "over the tasks on which every seed has one, at least four: the 95% interval over seeds of a lies above "
        f"{FOLLOWS:g}, and that of b within ±{IGNORES:g}. Not judged if `bp` is below {TRAINED:g} times chance on a "
        "task."
    )
    experiments = ("mlp-classes",)
    figure = "mlp-classes"
    deviations = (
        "Few classes have few test images, so each seed averages over disjoint groups of d classes among the first "
        "100; at scale cpu among the first 50, or 40 for d = 20. Scale cpu also omits d = 75 and width 1024, and an "
        "epoch on 100 classes uses half of the images, redrawn each time, for twice as many epochs. The training set "
        "shrinks with d (500 images per class), and so do the steps per epoch. The authors train 100 epochs on class "
        "subsets. Below scale paper, each rule uses the rates tuned on CIFAR-10 at width 512, ranked rules at r = 10, "
        "for every d and width. Intervals apply to new seeds on these classes, not to other classes. The output layer "
        "has d outputs, so a rank above d is capped at d there. r* is the smallest recorded rank that matches `bp` "
        "with every larger one, given where the power to match is 0.8 or more; its margin of one point is stricter on "
        "few classes, where accuracies are high. The authors' numbers for 50 classes constrain the output layer alone, "
        "a setting that is not run here.",
    )

    def reads(self, results: Results) -> list[Cell]:
        return [cell for cell in results.cells if cell.needed and (cell.rank or cell.config.rule == "bp")]

    def judge(self, results: Results) -> Judgement:
        found = tasks(results)
        by_classes, by_width = exponents(found)
        crossing = [task for task in found if task.crossing]
        classes = listed(str(d) for d in sorted({task.classes for task in crossing}))
        over = f"over {len(crossing)} of {len(found)} tasks (d = {classes})"
        parts = (
            told(
                bounded(
                    f"exponent of the needed rank on d above {FOLLOWS:g}, {over}", by_classes.values(), above=FOLLOWS
                ),
                f"over {classes} classes the needed rank grows by a power below {FOLLOWS:g}",
                f"over {classes} classes the needed rank grows by a power above {FOLLOWS:g}",
            ),
            told(
                bounded(
                    f"exponent of the needed rank on the width within ±{IGNORES:g}, {over}",
                    by_width.values(),
                    above=-IGNORES,
                    below=IGNORES,
                ),
                f"the needed rank changes with the width by a power of more than {IGNORES:g}",
                f"the needed rank changes with the width by a power of at most ±{IGNORES:g}",
            ),
        )
        return Judgement(
            parts=tuple(map(_fitted, parts)) if found else parts,
            context=(*_fit_of_needed(found), *map(_of_order_d, found), *map(_at_full_rank, found)),
            remark=_untrained(found),
            notes=(*_never(found), *_around_d(found)),
        )


def _never(found: list[Task]) -> tuple[str, ...]:
    """On the tasks whose needed rank is not between two recorded ranks for every seed; none if there are none."""
    lost = [task for task in found if task.ldfa and not task.crossing]
    if not lost:
        return ()
    best = [max(fmean(task.ratios(rank).values()) for rank in task.ldfa) for task in lost]
    shares = " to ".join(dict.fromkeys(f"{share:.0%}" for share in (min(best), max(best))))
    widths: dict[int, list[str]] = {}
    for task in sorted(lost, key=lambda task: task.classes):
        widths.setdefault(task.classes, []).append(str(task.width))
    where = listed(f"d = {classes} (width {listed(of_classes)})" for classes, of_classes in widths.items())
    return (
        f"Nothing is fitted at {where}: `ldfa` does not reach {FRACTION:.0%} of the accuracy of `bp` with every seed "
        f"at a recorded rank; the best rank's mean is {shares} of it.",
    )


def _around_d(found: list[Task]) -> tuple[str, ...]:
    """What the recorded ranks next to r = d change, over the tasks that have all three; none without runs."""
    lost, gained = [], []
    for task in found:
        ranks = sorted(task.ldfa)
        place = ranks.index(task.classes) if task.classes in ranks else 0
        if 0 < place < len(ranks) - 1:
            low, here, high = (
                mean_interval(task.ldfa[rank].values()).estimate for rank in ranks[place - 1 : place + 2]
            )
            lost.append(here - low)
            gained.append(high - here)
    if not lost:
        return ()
    return (
        f"Around r = d, over {len(lost)} tasks, the next lower recorded rank loses {min(lost):.1f} to {max(lost):.1f} "
        f"points to r = d, and the next higher one changes accuracy by {min(gained):+.1f} to {max(gained):+.1f}.",
    )


def _fitted(part: Part) -> Part:
    """The part, open if the runs give no fit."""
    if part.verdict is ClaimVerdict.NOT_RUN:
        return replace(part, verdict=ClaimVerdict.OPEN, number="no fit")
    return part


def _of_order_d(task: Task) -> Part:
    """Whether r* is of the order of d, with the crossing rank beside it."""
    needed, limit = task.needed, ORDER * task.classes
    if needed.rank and needed.rank <= limit:
        verdict = ClaimVerdict.HOLDS
    elif needed.above and needed.above >= limit:
        verdict = ClaimVerdict.FAILS
    else:
        verdict = ClaimVerdict.OPEN
    logs = mean_interval(map(log, task.crossing.values()))
    crossing = Interval(exp(logs.estimate), exp(logs.low), exp(logs.high), logs.n)
    reached = f"at r = {number(crossing, '.1f')}" if crossing.n else "not between two recorded ranks"
    text = f"{needed}; {FRACTION:.0%} of bp {reached}"
    return Part(f"d = {task.classes}, width {task.width}: r* at most {ORDER:g} d", verdict, text, len(task.bp), nan)


def _at_full_rank(task: Task) -> Part:
    """The loss of the rule against backpropagation with no limit on its rank, which r* includes."""
    where = f"d = {task.classes}, width {task.width}"
    return above(f"{where}: ldfa r=full minus bp: due to the rule", compare(task.full, task.bp))


def _fit_of_needed(found: list[Task]) -> tuple[Part, ...]:
    """The exponents from r* if enough tasks have one, with the same limits; n is the number of tasks."""
    if not (fitted := exponents_of_needed(found)):
        return ()
    by_classes, by_width = fitted
    return (
        within(f"exponent of r* on d above {FOLLOWS:g} (n: tasks)", by_classes, above=FOLLOWS),
        within(f"exponent of r* on the width within ±{IGNORES:g} (n: tasks)", by_width, above=-IGNORES, below=IGNORES),
    )


def _untrained(found: list[Task]) -> str:
    weak = [t for t in found if mean_interval(t.bp.values()).estimate < TRAINED * 100 / t.classes]
    named = ", ".join(f"d = {task.classes} at width {task.width}" for task in weak)
    return f"Not judged: bp is below {TRAINED:g} times chance on {named}." if weak else ""


CLAIM = TaskDimension()
