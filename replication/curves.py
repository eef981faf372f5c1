"""Learning curves of a run."""

from bench.records.store import Record

Points = list[tuple[int, float]]
"""Epoch and value."""


def accuracies(record: Record) -> Points:
    """Test accuracy in percent, as far as the run got."""
    tests = [(entry["epoch"], entry["test"]["accuracy"]) for entry in record.get("history", []) if "test" in entry]
    last = [(record["config"]["epochs"], record["final"]["accuracy"])] if record["status"] == "ok" else []
    return [*tests, *last]


def losses(record: Record) -> Points:
    """Training loss in percent of the first step's loss, as far as it is finite."""
    first = (record.get("first_losses") or [None])[0]
    if not first:
        return []
    return [(entry["epoch"], 100 * entry["loss"] / first) for entry in record["history"] if entry.get("loss")]
