"""T1: on a vision transformer a modest rank is enough."""

from bench.stats import compare
from replication.claims.base import Claim, Judgement, above, floor_remark
from replication.results import Results


class VisionTransformer(Claim):
    title = "Transformer, low rank in every linear layer"
    statement = (
        "On a vision transformer feedback of a modest rank in every linear layer matches backpropagation, and accuracy "
        "rises with the rank until it saturates."
    )
    criterion = (
        "Of the ranks, the middle one an eighth of the width or less: `ldfa-track` at the middle rank matches `bp` "
        "(95% interval above -1 point); `ldfa` gains from the lowest to the middle (interval above 0), and there loses "
        "no point to the highest (above -1). At scale quick the network is 32 wide, and its middle rank 8."
    )
    experiment = "vit-rank"
    figure = "vit-rank"
    paper = ("bp",)
    deviations = (
        "The patch embedding needs no feedback. Attention's softmax has its exact Jacobian under every rule. At scale "
        "cpu the width is a sixth, the depth half, the patch 8 pixels instead of 4, and there is no dropout.",
    )

    def judge(self, results: Results) -> Judgement:
        bp = results.accuracy("bp")
        ranks = sorted(cell.rank for cell in results.cells if cell.config.rule == "ldfa")
        low, middle, high = ranks[0], ranks[len(ranks) // 2], ranks[-1]
        ldfa = {rank: results.accuracy(f"ldfa r={rank}") for rank in (low, middle, high)}
        track = results.accuracy(f"ldfa-track r={middle}")
        return Judgement(
            parts=(
                above(f"ldfa-track r = {middle} minus bp", compare(track, bp)),
                above(f"ldfa r = {middle} minus r = {low}", compare(ldfa[middle], ldfa[low], margin=0.0)),
                above(f"ldfa r = {middle} minus r = {high}", compare(ldfa[middle], ldfa[high])),
            ),
            context=(above(f"ldfa r = {middle} minus bp", compare(ldfa[middle], bp)),),
            remark=floor_remark(results),
        )


CLAIM = VisionTransformer()
