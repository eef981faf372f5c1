"""N2: all layers cut at once stay near backpropagation, and beat a narrow network."""

from bench.stats import compare
from replication.claims.base import Claim, Judgement, above, below, fa_fails, floor_remark
from replication.results import Results

CLOSE = 2.0


class AllLayers(Claim):
    title = "MLP, all layers constrained"
    statement = (
        "With the error channels of all layers cut at once to a rank r near the number of classes d, the MLP "
        "stays at or near backpropagation, and beats a network that backpropagation trains at a width of 64."
    )
    criterion = (
        "`ldfa` at r = d = 10 matches `bp` (95% interval above -1 point), and its interval against `bp` at width 64 "
        "lies above 0. At scale quick the narrow network is 16 wide, as the full one is 128."
    )
    experiment = "mlp-all-layers"
    figure = "mlp-all-layers"
    paper = ("ldfa r=10", "bp")
    deviations = (
        "Rates and decays are tuned for each rule at width 512, the ranked rules at r = 10, with a rate of its own for "
        "the feedback; the authors use one Adam at 6e-4 (bp 5e-4). The narrow network has those of bp at width 512. "
        "The output layer has 10 outputs, so that a rank above 10 is capped at 10 there.",
    )

    def judge(self, results: Results) -> Judgement:
        bp, low, fa = (results.accuracy(label) for label in ("bp", "ldfa r=10", "fa"))
        width = 64 if results.cell("bp width=64") else 16
        narrow = results.accuracy(f"bp width={width}")
        return Judgement(
            parts=(
                above("ldfa r = 10 minus bp", compare(low, bp)),
                above(f"ldfa r = 10 minus bp at width {width}", compare(low, narrow, margin=0.0)),
            ),
            context=(
                above("ldfa r = 10 minus bp, within two points", compare(low, bp, margin=CLOSE)),
                fa_fails(results),
                below("fa minus ldfa r = 10", compare(fa, low, margin=0.0)),
            ),
            remark=floor_remark(results),
        )


CLAIM = AllLayers()
