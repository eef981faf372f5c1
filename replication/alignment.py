"""What the records say of a rule's errors and feedback beside backpropagation's, averaged over layers."""

from math import nan
from statistics import fmean

from bench.records import Record

WORST = {"error_angle": 90.0, "weight_angle": 90.0, "kept_energy": 0.0}
"""What a run that diverged or failed counts as: feedback that has nothing to do with backpropagation's."""


def over_layers(entry: dict, measure: str) -> float:
    """Mean of a measure over the layers of an entry of the history; NaN where no layer has it."""
    values = [layer[measure] for layer in entry.get("layers", {}).values() if layer[measure] is not None]
    return fmean(values) if values else nan


def final(record: Record, measure: str) -> float:
    """A measure at the end of training, its mean over the layers; the worst value where no layer has it."""
    value = over_layers(record["history"][-1], measure)
    return WORST[measure] if value != value else value
