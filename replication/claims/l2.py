"""L2: fixed random low-rank feedback settles on wrong solutions, and training only Q does not fix it."""

from bench.data.linear_teacher import OUTPUTS
from replication.claims._linear import WRONG, cells_of, dimension, group, losses, teachers
from replication.claims.base import Claim, Judgement, told
from replication.results import Cell, Results

BELOW = (
    "random feedback finds a correct solution even at a rank below the teacher's dimension s",
    "at lower ranks it settles on wrong ones",
)
FROM_THERE_ON = (
    "random feedback, fixed or with Q trained, finds correct solutions, on the mean over seeds, once its rank reaches "
    "the teacher's dimension s",
    "at ranks of s or more it settles on wrong ones",
)
"""The clauses for a group of ranks that fails, and for one that holds."""


class FixedFeedback(Claim):
    title = "Linear network, fixed feedback"
    statement = (
        "Fixed random feedback of a rank r below the output dimension (64) settles on wrong solutions, and training "
        "only Q does not fix it."
    )
    asks = "whether fixed random feedback of low rank settles on wrong solutions"
    finds = "Fixed random feedback of low rank settles on wrong solutions, and training Q alone does not fix it."
    criterion = (
        "After 5,000 steps, `fa-lowrank` and `ldfa-q` leave more than 5% of the initial loss at every recorded r < 64, "
        "for every teacher: each 95% interval over seeds lies above 5%."
    )
    experiments = ("linear",)
    figure = "linear-rank"

    def reads(self, results: Results) -> list[Cell]:
        fixed = (cell for cell in results.cells if cell.config.rule in ("fa-lowrank", "ldfa-q"))
        return [cell for cell in fixed if cell.rank is not None and cell.rank < OUTPUTS]

    def judge(self, results: Results) -> Judgement:
        return Judgement(
            tuple(
                told(group(results, rule, dataset, ranks, "above", WRONG), *words)
                for dataset in teachers(results)
                for rule in ("fa-lowrank", "ldfa-q")
                for ranks, words in (
                    (range(1, dimension(dataset)), BELOW),
                    (range(dimension(dataset), OUTPUTS), FROM_THERE_ON),
                )
                if cells_of(results, rule, dataset, ranks)
            ),
            notes=_not_yet(results),
        )


def _not_yet(results: Results) -> tuple[str, ...]:
    """A note on the seeds that are still wrong at a rank of s; none if there are none."""
    counts = []
    for dataset in teachers(results):
        s = dimension(dataset)
        for rule in ("fa-lowrank", "ldfa-q"):
            left = [loss for cell in cells_of(results, rule, dataset, range(s, s + 1)) for loss in losses(cell)]
            if wrong := sum(loss > WRONG for loss in left):
                counts.append(f"`{rule}` {wrong} of {len(left)} seeds at s = {s}")
    if not counts:
        return ()
    wrong_yet = f"some seeds still leave more than {WRONG:g}% of the loss after 5,000 steps"
    return (f"At r = s {wrong_yet}: {', '.join(counts)}.",)


CLAIM = FixedFeedback()
