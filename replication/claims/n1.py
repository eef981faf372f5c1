"""N1: one layer's error channel cut to the order of the class count keeps backpropagation's accuracy."""

from replication.claims.base import Claim, Judgement, floor_remark, matching
from replication.results import Results
from replication.stats import compare

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
    paper = "B1 at r = 10: 62.63 ± 0.31%, bp 62.75 ± 0.20% (n = 10)"
    deviations = ("The authors' figure is for CIFAR-10 at batch 32 over 150 epochs.",)

    def judge(self, results: Results) -> Judgement:
        bp = results.accuracy("bp")
        parts = (
            matching(f"{layer} ({where}) at r = 10 matches bp", compare(results.accuracy(f"ldfa {layer}=10"), bp))
            for layer, where in LAYERS.items()
        )
        return Judgement(tuple(parts), remark=floor_remark(results))


CLAIM = OneLayer()
