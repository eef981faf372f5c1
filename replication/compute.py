"""Training compute to an accuracy, from the tests along training that a record holds."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import pandas as pd

from bench.config import Config, parse
from bench.estimate import steps
from bench.records import Record
from bench.runs import chance
from bench.stats import mean_interval, number
from replication.results import Results
from replication.tables import Table, columns


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
    tests = [(entry["epoch"], entry["test"]["accuracy"]) for entry in record["history"] if "test" in entry]
    return [(0, chance(record["config"]["dataset"])), *tests, (record["config"]["epochs"], record["final"]["accuracy"])]


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


def compute_table(results: Results, shares: Sequence[float]) -> Table:
    """What a training step of each setting takes, in FLOPs by part and in seconds, and its costs to shares of bp's
    final accuracy over those of bp.

    The parts are those of the layers under the rule, summed, and in the numbers also one by one; the whole step has the
    first layer too. Seconds are the median over seeds, with tests and measures. bp comes first in the experiment.
    """
    numbers, text = [], []
    for cell in results.cells:
        ended = [record for record in cell.records.values() if record["status"] == "ok"]
        if not ended:
            continue
        parts, layers, step = (ended[0][name] for name in ("flops", "flops_layers", "flops_step"))
        if cell.label == "bp":
            whole = step
        taken = median(record["seconds"] for record in ended) / steps(cell.config)
        row = {"setting": cell.label, **parts, "flops_step": step, "step_over_bp": step / whole, "seconds_step": taken}
        row |= {f"{layer}_{part}": count for layer, counts in layers.items() for part, count in counts.items()}
        words = {"setting": f"`{cell.label}`"}
        words |= {f"{part.replace('_', ' ')} (MFLOP)": f"{count / 1e6:.1f}" for part, count in parts.items()}
        words |= {"whole step (MFLOP)": f"{step / 1e6:.0f}", "over bp": f"{step / whole:.3f}"}
        words |= {"step (ms)": f"{1e3 * taken:.1f}"}
        for cost, unit in ((flops, "FLOPs"), (seconds, "seconds")):
            for share in shares:
                found = ratios(results, cell.label, share, cost).values()
                lost = sum(not ratio.reached for ratio in found)
                interval = mean_interval(ratio.amount for ratio in found)
                row |= columns(f"{unit.lower()}_to_{share:.0%}", interval) | {f"never_{share:.0%}": lost}
                if cost is flops:
                    least = f"≥ {interval.estimate:.2f} ({lost} of {interval.n} never)"
                    words[f"{unit} to {share:.0%}, over bp's"] = least if lost else number(interval)
        numbers.append(row)
        text.append(words)
    return Table(pd.DataFrame(numbers), pd.DataFrame(text))
