"""N4: direct low-dimensional feedback works."""

from collections.abc import Mapping
from typing import Any

from bench.data import sizes
from bench.stats import compare, number
from replication.claims.base import Claim, Judgement, above, floor_remark, told
from replication.results import Cell, Results

SOURCES: tuple[dict[str, Any], ...] = ({}, {"source": "hidden"})
"""Options of the rule that send the error of the network's output, and of its last hidden layer."""


class DirectFeedback(Claim):
    title = "MLP, direct low-dimensional feedback"
    statement = (
        "The error can also reach every layer directly, without a layer-by-layer backward pass, through learned "
        "feedback of a rank near the number of classes d."
    )
    asks = "whether a low-dimensional error can also reach every layer directly"
    finds = (
        "An error of 10 dimensions, that of the output or one cut from the last hidden layer's, can be sent directly "
        "to every layer, without a layer-by-layer backward pass, and the MLP loses less than a point to direct "
        "feedback alignment."
    )
    criterion = (
        "`ldfa-direct` at r = d = 10 loses less than one point to `dfa` (95% interval above -1), both with the error "
        "of the network's output and with that of its last hidden layer."
    )
    experiments = ("mlp-direct",)
    figure = "mlp-direct"
    deviations = (
        "The rates are tuned with the error of the output at r = 10; the authors send the error of the last hidden "
        "layer (`source=hidden`). The error of the output has 10 numbers, so r = 10 does not cut it, nor does `dfa`; "
        "only r < 10 and `source=hidden` do.",
    )

    def reads(self, results: Results) -> list[Cell]:
        direct = (results.cell("ldfa-direct", "10", **options) for options in SOURCES)
        return [results.cell("bp"), results.cell("dfa"), *direct]

    def judge(self, results: Results) -> Judgement:
        dfa_cell = results.cell("dfa")
        bp, dfa = results.accuracy("bp"), dfa_cell.accuracy
        cells = (results.cell("ldfa-direct", "10", **options) for options in SOURCES)
        direct = {cell.label: cell.accuracy for cell in cells}
        return Judgement(
            parts=tuple(
                told(
                    above(f"{label} minus dfa", compare(values, dfa)),
                    f"direct feedback by `{label}` loses more than a point to direct feedback alignment",
                    f"direct feedback by `{label}` loses less than a point to direct feedback alignment",
                )
                for label, values in direct.items()
            ),
            context=(
                above("ldfa-direct r=4 minus dfa", compare(results.accuracy("ldfa-direct", "4"), dfa)),
                *(above(f"{label} minus bp", compare(values, bp)) for label, values in direct.items()),
                above("dfa minus bp", compare(dfa, bp)),
            ),
            notes=(*_lost({**direct, dfa_cell.label: dfa}, bp), *_cut(results, dfa)),
            remark=floor_remark(results),
        )


def _lost(accuracies: Mapping[str, Mapping[int, float]], bp: Mapping[int, float]) -> tuple[str, ...]:
    """A note on the differences from bp; none without runs."""
    intervals = {label: compare(accuracy, bp).interval for label, accuracy in accuracies.items()}
    lost = [f"`{label}` {number(interval, '+.2f')}" for label, interval in intervals.items() if interval.n]
    return (f"Points from `bp`: {', '.join(lost)}.",) if lost else ()


def _cut(results: Results, dfa: Mapping[int, float]) -> tuple[str, ...]:
    """What ranks below that of the output's error lose to `dfa`; none without runs."""
    direct = [cell for cell in results.cells if cell.config.rule == "ldfa-direct"]
    cut = [cell for cell in direct if cell.rank is not None and cell.rank < sizes(cell.config.dataset).outputs]
    low = {cell.label: compare(cell.accuracy, dfa).interval for cell in cut}
    lost = [f"`{label}` {number(interval, '+.2f')}" for label, interval in low.items() if interval.n]
    return (f"Ranks that cut it, points from `dfa`: {', '.join(lost)}.",) if lost else ()


CLAIM = DirectFeedback()
