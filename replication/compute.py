"""Training compute to an accuracy, from the tests along training that a record holds."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from bench.config import Config, parse
from bench.data import DATASETS
from bench.estimate import steps
from bench.records import Record
from replication.results import Results


class Reached(NamedTuple):
    """What a run took until it was as accurate as asked; if it never was, what all of it took."""

    amount: float
    reached: bool


Cost = Callable[[Record], float]
"""What the whole training of a record took."""


def flops(record: Record) -> float:
    """Floating-point operations of the matrix products of the whole training."""
    return record["flops_step"] * steps(parse(Config, record["config"], "configuration"))


def seconds(record: Record) -> float:
    """Measured time of the whole training, with its tests."""
    return record["seconds"]


def curve(record: Record) -> list[tuple[int, float]]:
    """(epoch, test accuracy in percent) along training, from chance at the start."""
    dataset = record["config"]["dataset"].partition(":")[0]
    tests = [(entry["epoch"], entry["test"]["accuracy"]) for entry in record["history"] if "test" in entry]
    return [(0, 100 / DATASETS.get(dataset).outputs), *tests, (record["config"]["epochs"], record["final"]["accuracy"])]


def until(record: Record, accuracy: float, cost: Cost) -> Reached:
    """What training took until `accuracy` (percent) was first reached, linear between two tests."""
    tests = curve(record)
    for (before, low), (after, high) in pairwise(tests):
        if high >= accuracy:
            epoch = before + (after - before) * max(0.0, accuracy - low) / (high - low) if high > low else before
            return Reached(cost(record) * epoch / record["config"]["epochs"], True)
    return Reached(cost(record), False)


def ratios(results: Results, label: str, share: float, cost: Cost) -> dict[int, Reached]:
    """By seed: the cost at which a setting reaches `share` of bp's final accuracy, over the cost at which bp does.

    A run that never gets there enters with all its training, a lower bound; one that diverged or failed, with all of
    bp's. Seeds whose run under bp is missing, diverged or failed are left out.
    """
    rule, bp = results.cell(label), results.cell("bp")
    if rule is None or bp is None:
        return {}
    found = {}
    for seed, record in rule.records.items():
        baseline = bp.records.get(seed)
        if baseline is not None and baseline["status"] == "ok":
            goal = share * baseline["final"]["accuracy"]
            ours = until(record, goal, cost) if record["status"] == "ok" else Reached(cost(baseline), False)
            found[seed] = Reached(ours.amount / until(baseline, goal, cost).amount, ours.reached)
    return found
