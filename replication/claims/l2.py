"""L2: fixed random low-rank feedback settles on wrong solutions, and training only Q does not repair it."""

from replication.claims.base import Claim, Judgement, Part, bounded, together
from replication.results import Results
from replication.tables import loss_table, remaining_loss

WRONG = 5.0
OUTPUTS = 64


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
    experiment = "linear"
    figure = "linear-rank"
    table = staticmethod(loss_table)

    def judge(self, results: Results) -> Judgement:
        return Judgement(
            tuple(
                group(results, rule, dataset, low, high, above=WRONG)
                for dataset in teachers(results)
                for rule in ("fa-lowrank", "ldfa-q")
                for low, high in ((1, dimension(dataset)), (dimension(dataset), OUTPUTS))
            )
        )


def teachers(results: Results) -> list[str]:
    """The datasets of the grid."""
    return list(dict.fromkeys(cell.config.dataset for cell in results.cells))


def dimension(dataset: str) -> int:
    """The teacher's dimension s."""
    return int(dataset.partition(":")[2])


def group(results: Results, rule: str, dataset: str, low: int, high: int, **limit: float) -> Part:
    """The condition on the remaining loss at every rank with low <= r < high; a run that failed speaks against it."""
    cells = [c for c in results.cells if c.config.rule == rule and c.config.dataset == dataset]
    against = 0.0 if "above" in limit else 100.0
    parts = [
        bounded(f"r = {cell.rank}", cell.values(remaining_loss, against).values(), **limit, unit="%")
        for cell in cells
        if low <= cell.rank < high
    ]
    side, value = ("above", limit["above"]) if "above" in limit else ("below", limit["below"])
    ranks = ", ".join(part.condition.removeprefix("r = ") for part in parts)
    return together(f"{rule}, s = {dimension(dataset)}, r = {ranks}: remaining loss {side} {value:g}%", parts, unit="%")


CLAIM = FixedFeedback()
