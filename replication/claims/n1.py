"""N1: one layer's error channel cut to the order of the class count keeps backpropagation's accuracy."""

from bench.stats import compare
from replication.claims.base import Claim, Judgement, above, floor_remark, rank_or_rule, told_together
from replication.results import Cell, Results

LAYERS = {"B1": "second layer", "B2": "third layer", "B3": "output layer"}


class OneLayer(Claim):
    title = "MLP, one layer constrained"
    statement = (
        "In the MLP, the error channel of any single layer can be cut to a rank r of the order of the number of "
        "classes d without losing accuracy relative to backpropagation."
    )
    asks = "whether an MLP keeps its accuracy with the error of one layer cut to 10 dimensions, one per class"
    finds = (
        "Any single layer of the MLP can learn from an error of 10 dimensions, one per class, and loses less than a "
        "point of accuracy."
    )
    criterion = (
        "`ldfa` with r = d = 10 in B1 alone, in B2 alone and in B3 alone matches `bp` in each case (95% interval above "
        "-1 point)."
    )
    experiments = ("mlp-one-layer",)
    figure = "mlp-one-layer"
    paper = (("ldfa", "B1=10"), ("bp", None))
    deviations = (
        "`ldfa` uses the rates and decay tuned with all layers at r = 10, and a separate rate for the feedback; the "
        "authors use one Adam at 6e-4 (bp 5e-4). A survey at the end of the report has other rates. The output layer "
        "has 10 outputs, so B3 at r = 10 has full rank: only r < 10 constrains it.",
    )

    def reads(self, results: Results) -> list[Cell]:
        return [results.cell("bp"), *(results.cell("ldfa", f"{layer}=10") for layer in LAYERS)]

    def judge(self, results: Results) -> Judgement:
        bp, full = results.cell("bp"), results.cell("ldfa", "full")
        low = {layer: results.cell("ldfa", f"{layer}=10") for layer in LAYERS}
        split, shares = rank_or_rule([*low.values()], full, bp)
        return Judgement(
            parts=tuple(
                told_together(
                    {
                        f"in the {LAYERS[layer]} alone": above(
                            f"ldfa {layer} ({LAYERS[layer]}) r = 10 minus bp", compare(cell.accuracy, bp.accuracy)
                        )
                        for layer, cell in low.items()
                    },
                    "cutting the error to 10 dimensions {} costs more than a point",
                    "cutting the error to 10 dimensions {} costs less than a point",
                )
            ),
            context=split,
            shares=shares,
            remark=floor_remark(results),
        )


CLAIM = OneLayer()
