"""N2: all layers cut at once stay near backpropagation, and beat a narrow network."""

from replication.claims.base import Claim, Judgement, failing, floor_remark, matching
from replication.results import Results
from replication.stats import compare

CLOSE = 2.0
FAILS = 5.0


class AllLayers(Claim):
    title = "MLP, all layers constrained"
    statement = (
        "With the error channels of all layers cut at once to a rank r near the number of classes d, the MLP "
        "stays at or near backpropagation, and beats a network that backpropagation trains at a width of 64."
    )
    criterion = (
        "`ldfa` at r = d = 10 matches `bp` (95% interval above -1 point), and its interval against `bp` at width 64 "
        "lies above 0."
    )
    experiment = "mlp-all-layers"
    figure = "mlp-all-layers"
    paper = "r = 10: 61.84 ± 0.23%, bp 62.75 ± 0.20% (n = 10)"
    deviations = ("The authors' figure is for CIFAR-10 at batch 32 over 150 epochs.",)

    def judge(self, results: Results) -> Judgement:
        bp, low, fa = (results.accuracy(label) for label in ("bp", "ldfa r=10", "fa"))
        narrow = next((c.accuracy for c in results.cells if c.label in ("bp width=64", "bp width=16")), {})
        return Judgement(
            parts=(
                matching("ldfa at r = 10 matches bp", compare(low, bp)),
                matching("ldfa at r = 10 beats the narrow bp network", compare(low, narrow, margin=0.0)),
            ),
            context=(
                matching("ldfa at r = 10 ends within 2 points of bp", compare(low, bp, margin=CLOSE)),
                failing("fa ends more than 5 points below bp (FA fails)", compare(fa, bp, margin=FAILS)),
                failing("fa ends below ldfa at r = 10", compare(fa, low, margin=0.0)),
            ),
            remark=floor_remark(results),
        )


CLAIM = AllLayers()
