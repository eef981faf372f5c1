"""T1: on a vision transformer, a modest rank is enough."""

from bench.layers.ranks import Rank
from bench.stats import compare
from replication.claims.base import Claim, Judgement, above, floor_remark, rank_or_rule, told
from replication.results import Cell, Results


class VisionTransformer(Claim):
    title = "Transformer, low rank in every linear layer"
    statement = (
        "On a vision transformer, feedback of modest rank in every linear layer matches backpropagation, and accuracy "
        "rises with the rank until it saturates."
    )
    asks = "whether feedback of modest rank is enough for a vision transformer"
    finds = (
        "On a vision transformer, feedback of modest rank stays within a point of backpropagation, and accuracy rises "
        "with the rank until it saturates."
    )
    criterion = (
        "The criterion reads the lowest, middle and highest rank below full rank; the middle one is at most an eighth "
        "of the width. `ldfa-track` at the middle rank matches `bp` (95% interval above -1 point). `ldfa` at the "
        "middle rank is better than at the lowest (interval above 0), and loses less than a point to the highest "
        "(interval above -1). At scale quick, the network has width 32 and the middle rank is 8."
    )
    experiments = ("vit-rank",)
    figure = "vit-rank"
    paper = (("bp", None),)
    deviations = (
        "The patch embedding needs no feedback. The softmax of attention uses its exact Jacobian under every rule. At "
        "scale cpu the network has a sixth of the width, half of the depth and no dropout; the middle rank, 8, is "
        "below the number of classes and cuts the output layer too, and all ranks have the rates tuned at rank 8. Only "
        "scale paper has the authors' resets of P and Q in `ldfa-track`.",
    )

    def reads(self, results: Results) -> list[Cell]:
        ranks = _ranks(results)
        ldfa = (results.cell("ldfa", str(rank)) for rank in ranks)
        return [results.cell("bp"), results.cell("ldfa-track", str(ranks[1])), *ldfa]

    def judge(self, results: Results) -> Judgement:
        bp = results.accuracy("bp")
        low, middle, high = _ranks(results)
        ldfa = {rank: results.accuracy("ldfa", str(rank)) for rank in (low, middle, high)}
        track = results.accuracy("ldfa-track", str(middle))
        split = [
            rank_or_rule([results.cell(rule, str(middle))], results.cell(rule, "full"), results.cell("bp"))
            for rule in ("ldfa-track", "ldfa")
        ]
        return Judgement(
            parts=(
                told(
                    above(f"ldfa-track r = {middle} minus bp", compare(track, bp)),
                    f"`ldfa-track` at rank {middle} loses more than a point",
                    f"`ldfa-track` at rank {middle} stays within a point of backpropagation",
                ),
                told(
                    above(f"ldfa r = {middle} minus r = {low}", compare(ldfa[middle], ldfa[low], margin=0.0)),
                    f"`ldfa` is no better at rank {middle} than at rank {low}",
                    f"under `ldfa` accuracy rises from rank {low} to {middle}",
                ),
                told(
                    above(f"ldfa r = {middle} minus r = {high}", compare(ldfa[middle], ldfa[high])),
                    f"accuracy still rises beyond rank {middle} under `ldfa`",
                    f"under `ldfa` accuracy saturates by rank {middle}",
                ),
            ),
            context=(
                above(f"ldfa r = {middle} minus bp", compare(ldfa[middle], bp)),
                *(
                    above(f"ldfa-track r = {middle} minus r = {high}", compare(track, cell.accuracy))
                    for cell in results.cells
                    if cell.config.rule == "ldfa-track" and cell.rank == high
                ),
                above(f"ldfa r = {high} minus full rank", compare(ldfa[high], results.accuracy("ldfa", "full"))),
                *(part for parts, _ in split for part in parts),
            ),
            shares=tuple(sentence for _, sentences in split for sentence in sentences),
            remark=floor_remark(results),
        )


def _ranks(results: Results) -> tuple[Rank, Rank, Rank]:
    """The lowest, the middle and the highest rank of `ldfa` below full rank."""
    ranks = sorted(cell.rank for cell in results.cells if cell.config.rule == "ldfa" and cell.rank)
    return ranks[0], ranks[len(ranks) // 2], ranks[-1]


CLAIM = VisionTransformer()
