"""N3: the rank needed follows the dimension of the task, not the width of the network."""

from dataclasses import replace
from math import exp, log, nan

from bench.stats import Interval, compare, mean_interval, number
from replication.claims.base import Claim, Judgement, Part, above, bounded, told, within
from replication.results import Cell, Results
from replication.task_dimension import FRACTION, Task, exponents, exponents_of_needed, tasks
from replication.verdicts import ClaimVerdict

FOLLOWS = 0.5
"""Exponent on the classes above which the needed rank follows them."""
IGNORES = 0.25
"""Exponent on the width, in size, below which the needed rank does not follow it: 19% a doubling."""
ORDER = 2.5
"""Times d up to which r* is of the order of d."""
TRAINED = 3.0
"""Times chance that backpropagation must reach on every task."""


class TaskDimension(Claim):
    title = "MLP, rank needed over the number of classes"
    statement = (
        "With the error channels of all layers cut at once, the rank r that the MLP needs follows the number of "
        "classes d, not the width of the network."
    )
    asks = "whether the rank that an MLP needs follows the number of classes, not its width"
    finds = "The rank of the error that an MLP needs grows with the number of classes, not with its width."
    criterion = (
        f"The needed rank of a seed is where its `ldfa` reaches {FRACTION:.0%} of the accuracy of its `bp`, by an "
        "isotonic fit over recorded ranks, interpolated in log r. Fitted as r ~ d^a width^b over the tasks where every "
        f"seed has one, at least four: the 95% interval over seeds of a lies above {FOLLOWS:g}, and that of b within "
        f"±{IGNORES:g}. Not judged where `bp` is below {TRAINED:g} times chance on a task."
    )
    experiments = ("mlp-classes",)
    figure = "mlp-classes"
    deviations = (
        "Few classes have few test images, so a seed averages over disjoint groups of d classes among the first 100; "
        "at scale cpu among the first 50, or 40 for d = 20. There d = 75 and the width 1024 are left out, and an "
        "epoch on 100 classes takes half of the images, drawn anew, for twice the epochs. The training set shrinks "
        "with d (500 images a class), and the steps of an epoch with it. The authors train 100 epochs on class "
        "subsets. Below scale paper each rule has the rates tuned on CIFAR-10 at width 512, ranked rules at r = 10, "
        "for every d and width. Intervals hold for fresh seeds on these classes, not for other classes. The output "
        "layer has d outputs, so that a rank above d is capped at d there. r* has a margin of one point, which is "
        "stricter where accuracies are high, on few classes. The authors' numbers for 50 classes are of the output "
        "layer alone, a setting that is not run here.",
    )

    def reads(self, results: Results) -> list[Cell]:
        return [cell for cell in results.cells if cell.needed and (cell.rank or cell.config.rule == "bp")]

    def judge(self, results: Results) -> Judgement:
        found = tasks(results)
        by_classes, by_width = exponents(found)
        crossing = sum(bool(task.crossing) for task in found)
        over = f"over {crossing} of {len(found)} tasks"
        parts = (
            told(
                bounded(
                    f"exponent of the needed rank on d above {FOLLOWS:g}, {over}", by_classes.values(), above=FOLLOWS
                ),
                "the rank that the MLP needs grows by less than the square root of the number of classes",
                "it grows with the number of classes",
            ),
            told(
                bounded(
                    f"exponent of the needed rank on the width within ±{IGNORES:g}, {over}",
                    by_width.values(),
                    above=-IGNORES,
                    below=IGNORES,
                ),
                "the rank that the MLP needs changes with its width",
                "it does not change with the width",
            ),
        )
        return Judgement(
            parts=tuple(map(_fitted, parts)) if found else parts,
            context=(*_fit_of_needed(found), *map(_of_order_d, found), *map(_at_full_rank, found)),
            remark=_untrained(found),
        )


def _fitted(part: Part) -> Part:
    """The part, open where the runs give no fit."""
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
    """What the rule loses to backpropagation with no limit on its rank: r* is against that too."""
    where = f"d = {task.classes}, width {task.width}"
    return above(f"{where}: ldfa r=full minus bp: the rule's", compare(task.full, task.bp))


def _fit_of_needed(found: list[Task]) -> tuple[Part, ...]:
    """The exponents from r*, where enough tasks have one, by the same limits; n is the number of tasks."""
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
    return f"not judged: bp is below {TRAINED:g} times chance on {named}" if weak else ""


CLAIM = TaskDimension()
