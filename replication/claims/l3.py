"""L3: training Q and P recovers backpropagation's solution once r reaches the teacher's dimension."""

from bench.data.linear_teacher import OUTPUTS
from replication.claims._linear import WRONG, cells_of, dimension, group, teachers
from replication.claims.base import Claim, Judgement, told
from replication.results import Cell, Results

RIGHT = 1.0


class LearnedFeedback(Claim):
    title = "Linear network, learned feedback"
    statement = (
        "Training both Q and P recovers the solution of backpropagation once r reaches the teacher's dimension s, for "
        "s = 8 and s = 32."
    )
    asks = "whether training both P and Q recovers the solution of backpropagation"
    finds = (
        "Training both P and Q recovers the solution of backpropagation in a linear network once the rank reaches the "
        "teacher's dimension s."
    )
    criterion = (
        "After 5,000 steps, `ldfa` leaves less than 1% of the initial loss at every recorded r >= s: each 95% interval "
        "over seeds lies below 1%."
    )
    experiments = ("linear",)
    figure = "linear-rank"

    def reads(self, results: Results) -> list[Cell]:
        learned = (cell for cell in results.cells if cell.config.rule == "ldfa")
        return [cell for cell in learned if cell.rank is not None and cell.rank >= dimension(cell.config.dataset)]

    def judge(self, results: Results) -> Judgement:
        sizes = {dataset: dimension(dataset) for dataset in teachers(results)}
        return Judgement(
            parts=tuple(
                told(
                    group(results, "ldfa", d, range(s, OUTPUTS + 1), "below", RIGHT),
                    f"training both P and Q leaves more than {RIGHT:g}% of the loss on a teacher of dimension {s}",
                    f"training both P and Q leaves less than {RIGHT:g}% of the loss on a teacher of dimension {s}",
                )
                for d, s in sizes.items()
            ),
            context=tuple(
                group(results, "ldfa", d, range(1, s), "above", WRONG)
                for d, s in sizes.items()
                if cells_of(results, "ldfa", d, range(1, s))
            ),
        )


CLAIM = LearnedFeedback()
