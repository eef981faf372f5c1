"""How a rule's errors and feedback compare with those of backpropagation, from the records."""

from collections.abc import Collection
from math import nan
from statistics import fmean

import pandas as pd

from bench.records.store import Record
from bench.stats import mean_interval, number
from replication.results import Results
from replication.tables import Table, columns

WORST = {"error_angle": 90.0, "weight_angle": 90.0, "kept_energy": 0.0}
"""Values for a run that diverged or failed: feedback unrelated to that of backpropagation."""
SHOWN = {
    "error_angle": ("angle between error and bp's (°)", ".1f"),
    "weight_angle": ("angle between feedback and W (°)", ".1f"),
    "kept_energy": ("share of energy that P keeps", ".3f"),
    "update_rank": ("effective rank of dW", ".1f"),
}


def over_layers(entry: dict, measure: str, layers: Collection[str] | None = None) -> float:
    """Mean of a measure over `layers`, or all, of an entry of the history; NaN if no layer has it."""
    named = entry.get("layers", {})
    chosen = named if layers is None else layers
    values = [layer[measure] for name, layer in named.items() if name in chosen and layer[measure] is not None]
    return fmean(values) if values else nan


def final(record: Record, measure: str, layers: Collection[str] | None) -> float:
    """A measure at the end of training, averaged over `layers` or all; the worst value if no layer has it."""
    value = over_layers(record["history"][-1], measure, layers)
    return WORST[measure] if value != value else value


def layer_table(results: Results) -> Table:
    """Each measure at the end of training, one row per setting and layer, without runs that diverged or failed."""
    numbers, text = [], []
    for cell in results.cells:
        ends = [record["history"][-1] for record in cell.records.values() if record["status"] == "ok"]
        for layer in dict.fromkeys(name for end in ends for name in end.get("layers", {})):
            having = [end["layers"][layer] for end in ends if layer in end.get("layers", {})]
            found = {measure: [layer_of[measure] for layer_of in having] for measure in SHOWN}
            intervals = {m: mean_interval(v for v in values if v is not None) for m, values in found.items()}
            numbers.append({"setting": cell.label, "layer": layer, "n": len(having)})
            text.append({"setting": f"`{cell.label}`", "layer": layer, "n": str(len(having))})
            for measure, interval in intervals.items():
                words, form = SHOWN[measure]
                numbers[-1] |= columns(measure, interval)
                text[-1][words] = number(interval, form)
    return Table(pd.DataFrame(numbers), pd.DataFrame(text))
