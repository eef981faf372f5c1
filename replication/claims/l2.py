"""L2: fixed random low-rank feedback settles on wrong solutions, and training only Q does not repair it."""

from bench.data.linear_teacher import OUTPUTS
from replication.claims._linear import WRONG, dimension, group, teachers
from replication.claims.base import Claim, Judgement
from replication.results import Cell, Results


class FixedFeedback(Claim):
    title = "Linear network, fixed feedback"
    statement = (
        "Fixed random feedback of a rank r below the output dimension (64) settles on wrong solutions, and training "
        "only Q does not repair it."
    )
    criterion = (
        "After 5,000 steps `fa-lowrank` and `ldfa-q` leave more than 5% of the initial loss at every recorded r < 64, "
        "for every teacher: each 95% interval over seeds lies above 5%."
    )
    experiments = ("linear",)
    figure = "linear-rank"

    def reads(self, results: Results) -> list[Cell]:
        return [cell for cell in results.cells if cell.config.rule in ("fa-lowrank", "ldfa-q") and cell.rank < OUTPUTS]

    def judge(self, results: Results) -> Judgement:
        return Judgement(
            tuple(
                group(results, rule, dataset, ranks, "above", WRONG)
                for dataset in teachers(results)
                for rule in ("fa-lowrank", "ldfa-q")
                for ranks in (range(1, dimension(dataset)), range(dimension(dataset), OUTPUTS))
            )
        )


CLAIM = FixedFeedback()
