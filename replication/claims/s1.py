"""S1: rules that use only signals at the synapse learn the feedback subspace."""

from bench.stats import compare
from replication.alignment import WORST, final, layer_table
from replication.claims.base import Claim, Judgement, Part, above, bounded, floor_remark
from replication.results import Results
from replication.tables import Table

LOCAL = ("ldfa r=10", "ldfa-hebb r=10")
READS_W = "ldfa-track r=10"
ANGLE = 45.0
ENERGY = 0.5


class LocalLearning(Claim):
    title = "MLP, feedback learned by local rules"
    statement = (
        "Rules that use only pre- and postsynaptic signals learn the feedback subspace: the feedback turns towards the "
        "forward weights, and the error sent down towards the gradient."
    )
    criterion = (
        "At the end of training, r = 10 in every layer, means over layers: for `ldfa` and `ldfa-hebb` the angle "
        "between the error sent down and backpropagation's lies below 45 degrees, P keeps more than half of the "
        "error's energy, and the accuracy minus that of `ldfa-track`, which reads the weights, lies above -1 point: "
        "each with its whole 95% interval."
    )
    experiment = "alignment"
    figure = "alignment"
    deviations = (
        "Measured after each epoch on the first 256 training images, in train mode. The output layer has 10 outputs, "
        "so that its P keeps all of the error at r = 10. `ldfa` reads the targets at the output layer.",
    )

    def judge(self, results: Results) -> Judgement:
        parts = []
        for label in LOCAL:
            accuracy = compare(results.accuracy(label), results.accuracy(READS_W))
            parts += [
                _final(results, label, "error_angle", f"{label}: angle of the error to bp's", below=ANGLE, unit="°"),
                _final(results, label, "kept_energy", f"{label}: energy that P keeps", above=ENERGY),
                above(f"{label} minus {READS_W}", accuracy),
            ]
        context = [
            _final(results, label, "error_angle", f"{label}: angle of the error to bp's", below=ANGLE, unit="°")
            for label in ("fa", "kp", READS_W)
        ]
        return Judgement(tuple(parts), tuple(context), floor_remark(results))

    def details(self, results: Results) -> Table | None:
        return layer_table(results)


def _final(results: Results, label: str, measure: str, condition: str, unit: str = "", **limit: float) -> Part:
    cell = results.cell(label)
    values = cell.values(lambda record: final(record, measure), WORST[measure]).values() if cell else ()
    side, bound = next(iter(limit.items()))
    return bounded(f"{condition} {side} {bound:g}{unit}", values, **limit, unit=unit)


CLAIM = LocalLearning()
