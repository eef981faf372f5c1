"""E1: low-dimensional feedback needs less compute for the same accuracy."""

from dataclasses import replace

from replication.claims.base import Claim, Judgement, Part, bounded, floor_remark
from replication.compute import compute_table, flops, ratios
from replication.results import Results
from replication.stats import ClaimVerdict
from replication.tables import Table

SHARES = (0.90, 0.95, 0.99)
LIMIT = 0.8
OTHERS = ("ldfa r=64", "ldfa-hebb r=10", "ldfa-track r=10")


class Compute(Claim):
    title = "MLP, compute to equal accuracy"
    statement = "The training compute to equal accuracy falls by more than 20% (version 4 of the paper)."
    criterion = (
        "The FLOPs that `ldfa` at r = 10 takes to reach 90, 95 and 99% of the final accuracy of `bp`, over those that "
        "`bp` takes, lie below 0.8 with their whole 95% interval. A run that never gets there enters with all its "
        "training, and then the condition cannot hold."
    )
    experiment = "compute"
    figure = "compute"
    deviations = (
        "FLOPs are those of the matrix products of all layers: forward, error path, weight gradient and feedback "
        "update. The first layer, which holds two thirds of the weights, sends no error down under any rule, so that "
        "this network has less to save than a deeper one. Accuracy is tested after each epoch, linear in between. "
        "On a GPU runs that are alike train as one program, and a run's seconds are its share of them.",
    )

    def judge(self, results: Results) -> Judgement:
        return Judgement(
            parts=tuple(_saving(results, "ldfa r=10", share) for share in SHARES),
            context=tuple(_saving(results, label, 0.90) for label in OTHERS),
            remark=floor_remark(results),
        )

    def details(self, results: Results) -> Table | None:
        return compute_table(results, SHARES)


def _saving(results: Results, label: str, share: float) -> Part:
    """The condition that a setting reaches a share of bp's final accuracy at less than `LIMIT` of its FLOPs."""
    found = ratios(results, label, share, flops)
    condition = f"{label}: FLOPs to {share:.0%} of bp's accuracy, over bp's, below {LIMIT:g}"
    part = bounded(condition, (ratio.amount for ratio in found.values()), below=LIMIT)
    if lost := sum(not ratio.reached for ratio in found.values()):
        held = part.verdict is ClaimVerdict.SUPPORTED
        part = replace(
            part,
            number=f"at least {part.number}; {lost} of {part.n} never get there",
            verdict=ClaimVerdict.INCONCLUSIVE if held else part.verdict,
        )
    return part


CLAIM = Compute()
