"""C1: on a CNN, plain feedback alignment fails and low-dimensional feedback does not."""

from fractions import Fraction

from bench.stats import compare, number
from replication.claims.base import (
    Claim,
    Judgement,
    above,
    fa_fails,
    floor_remark,
    listed,
    rank_or_rule,
    told,
    told_together,
)
from replication.results import Cell, Results

RANKS = ("1/2", "1/4", "1/8")


class ConvolutionalNetwork(Claim):
    title = "CNN, low rank in every layer"
    statement = (
        "On a VGG-like CNN, plain feedback alignment fails, while learned feedback with a rank of 1/2, 1/4 or 1/8 of "
        "each layer's channels matches backpropagation."
    )
    asks = "whether learned low-rank feedback trains a CNN as well as backpropagation, while feedback alignment fails"
    finds = (
        "On a CNN, plain feedback alignment fails, while learned feedback at 1/2, 1/4 and 1/8 of the channels stays "
        "within a point of backpropagation."
    )
    criterion = (
        "`ldfa` at each of the three ranks matches `bp` (95% interval above -1 point), and `fa` fails (its whole "
        "interval lies below -5 points)."
    )
    experiments = ("cnn-rank",)
    figure = "cnn-rank"
    paper = (("ldfa", "1/4"), ("bp", None))
    deviations = (
        "The classifier is trained by backpropagation under every rule. At scale cpu the network has a quarter of the "
        "channels and no dropout; fractions of its channels fall below d = 10 in the first layers, so an absolute "
        "rank of 10 is run as well. Rates and decays are tuned for each rule, ranked rules at 1/4.",
    )

    def reads(self, results: Results) -> list[Cell]:
        return [results.cell("bp"), results.cell("fa"), *(results.cell("ldfa", rank) for rank in RANKS)]

    def judge(self, results: Results) -> Judgement:
        bp, full = results.cell("bp"), results.cell("ldfa", "full")
        low = {rank: results.cell("ldfa", rank) for rank in RANKS}
        slim = [cell for cell in results.cells if cell.config.rule == "ldfa" and isinstance(cell.rank, int)]
        split, shares = rank_or_rule([*low.values(), *slim], full, bp)
        matches = {r: above(f"ldfa r = {r} minus bp", compare(cell.accuracy, bp.accuracy)) for r, cell in low.items()}
        return Judgement(
            parts=(
                *told_together(
                    matches,
                    "on a CNN, learned feedback at {} of the channels loses more than a point",
                    "on a CNN, learned feedback at {} of the channels loses less than a point",
                ),
                told(
                    fa_fails(results),
                    "on a CNN, plain feedback alignment does not fail",
                    "plain feedback alignment fails, as claimed",
                ),
            ),
            context=(
                *(above(f"{cell.label} minus bp", compare(cell.accuracy, bp.accuracy)) for cell in slim),
                *split,
            ),
            shares=shares,
            notes=tuple(_narrow(cell, bp) for cell in slim if cell.accuracy and bp.accuracy),
            remark=floor_remark(results),
        )


def _narrow(cell: Cell, bp: Cell) -> str:
    """What an absolute rank says of a network whose fractions fall below the number of classes."""
    width, change = bp.config.model_options["width"], compare(cell.accuracy, bp.accuracy).interval
    fractions = listed(f"{Fraction(rank) * width}" for rank in RANKS)
    return (
        f"The narrowest layers have {width} channels here, so the fractions leave the error {fractions} dimensions "
        f"there, for {cell.rank} classes; with {cell.rank} in every layer {cell.config.rule} differs from "
        f"bp by {number(change, '+.2f')} points."
    )


CLAIM = ConvolutionalNetwork()
