"""N1: one layer's error channel cut to the order of the class count keeps backpropagation's accuracy."""

from bench.stats import compare
from replication.claims.base import Claim, Judgement, above, floor_remark
from replication.results import Results

LAYERS = {"B1": "second layer", "B2": "third layer", "B3": "output layer"}


class OneLayer(Claim):
    title = "MLP, one layer constrained"
    statement = (
        "In the MLP, the error channel of any one layer can be cut to a rank r of the order of the number of classes d "
        "without loss of accuracy against backpropagation."
    )
    criterion = "`ldfa` at r = d = 10 in B1, in B2 and in B3, each alone, matches `bp` (95% interval above -1 point)."
    experiment = "mlp-one-layer"
    figure = "mlp-one-layer"
    paper = ("ldfa B1=10", "bp")
    deviations = (
        "The rates and decay of `ldfa` are those tuned with all layers at r = 10, with a rate of its own for the "
        "feedback; the authors use one Adam at 6e-4 (bp 5e-4). The output layer has 10 outputs, so that B3 at r = 10 "
        "is its full rank: only r < 10 constrains it.",
    )

    def judge(self, results: Results) -> Judgement:
        bp = results.accuracy("bp")
        parts = (
            above(f"ldfa {layer} ({where}) r = 10 minus bp", compare(results.accuracy(f"ldfa {layer}=10"), bp))
            for layer, where in LAYERS.items()
        )
        return Judgement(tuple(parts), remark=floor_remark(results))


CLAIM = OneLayer()
