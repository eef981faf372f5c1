"""S1: rules that use only signals at the synapse learn the feedback subspace."""

from collections.abc import Collection, Sequence

from bench.stats import compare, mean_interval, number
from replication.alignment import WORST, final, layer_table
from replication.claims.base import Claim, Judgement, Part, above, bounded, floor_remark, told
from replication.results import Cell, Results
from replication.tables import Table

LOCAL = (("ldfa", "10"), ("ldfa-hebb", "10"))
READS_W = ("ldfa-track", "10")
ANGLE = 45.0
ENERGY = 0.5
CUT = ("B1", "B2")
"""The layers whose error has more than 10 dimensions."""


class LocalLearning(Claim):
    title = "MLP, alignment of the learned feedback"
    statement = (
        "Rules that use only pre- and postsynaptic signals learn the feedback subspace: the feedback aligns with the "
        "forward weights, and the error sent down with the gradient."
    )
    asks = "whether local rules learn the feedback subspace"
    finds = (
        "Rules that use only signals at the synapse learn the feedback subspace, and lose less than a point to a rule "
        "that reads the weights."
    )
    criterion = (
        "At the end of training with r = 10 in every layer, as means over layers, for `ldfa` and for `ldfa-hebb`: the "
        "angle between the error sent down and that of backpropagation is below 45 degrees, P keeps more than half "
        "of the error's energy, and accuracy minus that of `ldfa-track`, which reads the weights, is above -1 point, "
        "each with its whole 95% interval."
    )
    experiments = ("alignment",)
    figure = "alignment"
    deviations = (
        "Measured during training (at scale cpu after every fifth epoch) on the first 256 training images, in train "
        "mode. The output layer has 10 outputs, so its P keeps all of the error at r = 10. `ldfa` reads the targets at "
        "the output layer.",
    )

    def reads(self, results: Results) -> list[Cell]:
        return [results.cell(*setting) for setting in (("bp",), *LOCAL, READS_W)]

    def judge(self, results: Results) -> Judgement:
        parts, reads_W = [], results.cell(*READS_W)
        for cell in (results.cell(*setting) for setting in LOCAL):
            accuracy = compare(cell.accuracy, reads_W.accuracy)
            rule = f"`{cell.config.rule}`"
            parts += [
                told(
                    _final(cell, "error_angle", "angle between the error and bp's", below=ANGLE, unit="°"),
                    f"the errors of {rule} do not align with those of backpropagation",
                    f"the errors of {rule} align with those of backpropagation",
                ),
                told(
                    _final(cell, "kept_energy", "share of energy that P keeps", above=ENERGY),
                    f"P of {rule} loses more than half of the error's energy",
                    f"P of {rule} keeps more than half of the error's energy on the mean over all layers",
                ),
                told(
                    above(f"{cell.label} minus {reads_W.label}", accuracy),
                    f"{rule} loses more than a point to the rule that reads the weights",
                    f"{rule} loses less than a point to the rule that reads the weights",
                ),
            ]
        others = (results.cell("fa"), results.cell("kp"), reads_W)
        context = [
            _final(cell, "error_angle", "angle between the error and bp's", below=ANGLE, unit="°") for cell in others
        ]
        cut = [results.cell(*setting) for setting in (*LOCAL, READS_W)]
        for cell in cut:
            words = f"share of energy that P keeps, mean of {' and '.join(CUT)}"
            context.append(_final(cell, "kept_energy", words, layers=CUT, above=ENERGY))
        return Judgement(tuple(parts), tuple(context), floor_remark(results), notes=_where_cut(cut))

    def details(self, results: Results) -> Table | None:
        return layer_table(results)


def _where_cut(cells: Sequence[Cell]) -> tuple[str, ...]:
    """A note on the energy that P keeps where the error is cut; none without runs."""
    kept = [
        f"{number(mean_interval(values), '.3f')} under `{cell.config.rule}`"
        for cell in cells
        if (values := _values(cell, "kept_energy", CUT))
    ]
    where = "Without the output layer, where r = 10 cuts nothing"
    return (f"{where}, the share of the error's energy that P keeps is {', '.join(kept)}.",) if kept else ()


def _values(cell: Cell, measure: str, layers: Collection[str] | None) -> list[float]:
    return [*cell.values(lambda record: final(record, measure, layers), WORST[measure]).values()]


def _final(
    cell: Cell, measure: str, condition: str, unit: str = "", layers: Collection[str] | None = None, **limit: float
) -> Part:
    values = _values(cell, measure, layers)
    side, bound = next(iter(limit.items()))
    return bounded(f"{cell.label}: {condition} {side} {bound:g}{unit}", values, **limit, unit=unit)


CLAIM = LocalLearning()
