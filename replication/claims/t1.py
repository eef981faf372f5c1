"""T1: on a vision transformer a modest rank is enough."""

from replication.claims.base import Claim, Judgement, above, floor_remark
from replication.results import Results
from replication.stats import compare


class VisionTransformer(Claim):
    title = "Transformer, low rank in every linear layer"
    statement = (
        "On a vision transformer feedback of a modest rank in every linear layer matches backpropagation, and accuracy "
        "rises with the rank until it saturates."
    )
    criterion = (
        "`ldfa-track` at a rank of an eighth of the width matches `bp` (95% interval above -1 point); `ldfa` gains from the "
        "lowest to the middle rank (interval above 0) and no longer loses a point to the highest (above -1)."
    )
    experiment = "vit-rules"
    figure = "vit-rules"
    paper = ("bp",)
    deviations = (
        "The patch embedding needs no feedback; attention's softmax has its exact Jacobian under every rule. At scale "
        "cpu the network has a sixth of the width, half of the depth, and no dropout.",
    )

    def judge(self, results: Results) -> Judgement:
        bp = results.accuracy("bp")
        low, middle, high = (results.accuracy(f"ldfa r={rank}") for rank in (2, 8, 32))
        return Judgement(
            parts=(
                above("ldfa-track r = 8 minus bp", compare(results.accuracy("ldfa-track r=8"), bp)),
                above("ldfa r = 8 minus r = 2", compare(middle, low, margin=0.0)),
                above("ldfa r = 8 minus r = 32", compare(middle, high)),
            ),
            context=(above("ldfa r = 8 minus bp", compare(middle, bp)),),
            remark=floor_remark(results),
        )


CLAIM = VisionTransformer()
