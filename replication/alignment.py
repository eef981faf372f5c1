"""What the records say of a rule's errors and feedback beside backpropagation's."""

from math import nan
from statistics import fmean

import pandas as pd

from bench.records.store import Record
from bench.stats import mean_interval, number
from replication.results import Results
from replication.tables import Table, columns

WORST = {"error_angle": 90.0, "weight_angle": 90.0, "kept_energy": 0.0}
"""What a run that diverged or failed counts as: feedback that has nothing to do with backpropagation's."""
SHOWN = {
    "error_angle": ("angle of the error to bp's (°)", ".1f"),
    "weight_angle": ("angle of the feedback to W (°)", ".1f"),
    "kept_energy": ("energy that P keeps", ".3f"),
    "update_rank": ("effective rank of dW", ".1f"),
}


def over_layers(entry: dict, measure: str) -> float:
    """Mean of a measure over the layers of an entry of the history; NaN where no layer has it."""
    values = [layer[measure] for layer in entry.get("layers", {}).values() if layer[measure] is not None]
    return fmean(values) if values else nan


def final(record: Record, measure: str) -> float:
    """A measure at the end of training, its mean over the layers; the worst value where no layer has it."""
    value = over_layers(record["history"][-1], measure)
    return WORST[measure] if value != value else value


def layer_table(results: Results) -> Table:
    """Each measure at the end of training, a row a setting and layer; runs that diverged or failed are left out."""
    numbers, text = [], []
    for cell in results.cells:
        ends = [record["history"][-1] for record in cell.records.values() if record["status"] == "ok"]
        for layer in ends[0].get("layers", {}) if ends else ():
            found = {m: [end["layers"][layer][m] for end in ends if layer in end.get("layers", {})] for m in SHOWN}
            intervals = {m: mean_interval(v for v in values if v is not None) for m, values in found.items()}
            numbers.append({"setting": cell.label, "layer": layer, "n": len(ends)})
            text.append({"setting": f"`{cell.label}`", "layer": layer, "n": str(len(ends))})
            for measure, interval in intervals.items():
                words, form = SHOWN[measure]
                numbers[-1] |= columns(measure, interval)
                text[-1][words] = number(interval, form)
    return Table(pd.DataFrame(numbers), pd.DataFrame(text))
