"""C1: on a CNN plain feedback alignment fails, low-dimensional feedback does not."""

from bench.stats import compare
from replication.claims.base import Claim, Judgement, above, fa_fails, floor_remark
from replication.results import Results

RANKS = ("1/2", "1/4", "1/8")


class ConvolutionalNetwork(Claim):
    title = "CNN, low rank in every layer"
    statement = (
        "On a VGG-like CNN plain feedback alignment fails, while learned feedback of a rank of 1/2, 1/4 or 1/8 of each "
        "layer's channels matches backpropagation."
    )
    criterion = (
        "`ldfa` at each of the three ranks matches `bp` (95% interval above -1 point), and `fa` fails (its whole "
        "interval lies below -5 points)."
    )
    experiment = "cnn-rank"
    figure = "cnn-rank"
    paper = ("ldfa r=1/4", "bp")
    deviations = (
        "The classifier stays under backpropagation under every rule. At scale cpu the network has an eighth of the "
        "channels and no dropout. Rates and decays are tuned for each rule, the ranked rules at 1/4.",
    )

    def judge(self, results: Results) -> Judgement:
        bp = results.accuracy("bp")
        return Judgement(
            parts=(
                *(above(f"ldfa r = {r} minus bp", compare(results.accuracy(f"ldfa r={r}"), bp)) for r in RANKS),
                fa_fails(results),
            ),
            remark=floor_remark(results),
        )


CLAIM = ConvolutionalNetwork()
