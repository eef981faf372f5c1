"""Training compute: of one step, counted from shapes alone, and up to an accuracy, from the tests during training."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

import pandas as pd
import torch

from bench.config import Config, parse
from bench.data import sizes
from bench.data.base import Data, Split
from bench.models import MODELS
from bench.records.runs import chance
from bench.records.store import Record
from bench.stats import mean_interval, number
from bench.sweeps.experiments import alternative
from bench.sweeps.protocols import configure
from bench.sweeps.roofline import IMAGE
from bench.training.costs import flops_of
from bench.training.learner import build, step
from bench.training.length import steps
from replication.curves import accuracies
from replication.results import Cell, Results
from replication.tables import Table, columns

_counted: dict[str, int] = {}
SHARES = (0.90, 0.95, 0.99)
"""Shares of bp's final accuracy up to which the costs of a setting are shown."""


def step_flops(config: Config) -> int:
    """FLOPs of the matrix products of one training step on images of CIFAR's shape.

    They are counted by running the step on the device `meta`, whose tensors have shapes but no values, in float32: it
    has no lower precision, and the count is the same.
    """
    config = replace(config, seed=0, precision="float32")
    if config.digest not in _counted:
        with torch.device("meta"):
            split = Split(torch.zeros(config.batch_size, *IMAGE), torch.zeros(config.batch_size, dtype=torch.long))
            learner = build(config, Data(config.dataset, split, split, sizes(config.dataset).outputs, {}))
            learner.network.train()
            optimiser = torch.optim.SGD(learner.network.parameters())
            _counted[config.digest] = flops_of(partial(step, learner, optimiser, split.inputs, split.targets))
    return _counted[config.digest]


def step_ratio(config: Config) -> float:
    """The FLOPs of a step relative to `bp` on the same network, at the same batch size."""
    return step_flops(config) / step_flops(replace(config, rule="bp", rank=None, rule_options={}))


def authors_step(model: str, rule: str, rank: str | None) -> float:
    """The FLOPs of a step relative to `bp` on the authors' network, at their batch size."""
    return step_ratio(configure(model, rule, "paper", rank=rank, choose=alternative(0)))


class Reached(NamedTuple):
    """The FLOPs of a run until it reached an accuracy; if it never did, those of the whole run."""

    amount: float
    reached: bool


def flops(record: Record) -> float:
    """Floating-point operations of the matrix products of the whole training."""
    return record["flops_step"] * steps(parse(Config, record["config"], "configuration"))


def curve(record: Record) -> list[tuple[int, float]]:
    """(epoch, test accuracy in percent) during training, starting at chance."""
    return [(0, chance(record["config"]["dataset"])), *accuracies(record)]


def until(record: Record, accuracy: float) -> Reached:
    """The FLOPs of training until `accuracy` (percent) was first reached, interpolated linearly between tests."""
    tests = curve(record)
    for (before, low), (after, high) in pairwise(tests):
        if high >= accuracy:
            epoch = before + (after - before) * max(0.0, accuracy - low) / (high - low) if high > low else before
            return Reached(flops(record) * epoch / record["config"]["epochs"], True)
    return Reached(flops(record), False)


Goals = Callable[[Record, Record], tuple[float, float]]
"""For a run and bp's run of the same seed: the accuracy that each has to reach."""


def ratios(rule: Cell, bp: Cell, goals: Goals) -> dict[int, Reached]:
    """By seed: the FLOPs with which a setting reaches its goal, divided by those with which bp reaches its own.

    A run that never reaches it counts with all its training, a lower bound; one that diverged or failed, with all of
    bp's. Seeds whose bp run is missing, diverged, failed, or ends where chance reaches its goal are excluded.
    """
    found = {}
    for seed, record in rule.records.items():
        baseline = bp.records.get(seed)
        if baseline is not None and baseline["status"] == "ok":
            if record["status"] == "ok":
                goal, other = goals(record, baseline)
                ours = until(record, goal)
            else:
                _, other = goals(baseline, baseline)
                ours = Reached(flops(baseline), False)
            if theirs := until(baseline, other).amount:
                found[seed] = Reached(ours.amount / theirs, ours.reached)
    return found


def of_bp(share: float) -> Goals:
    """Both have to reach a share of bp's final accuracy."""
    return lambda record, baseline: (share * baseline["final"]["accuracy"],) * 2


def of_their_own(share: float) -> Goals:
    """The authors' first measure: each has to reach a share of its own final accuracy."""
    return lambda record, baseline: (share * record["final"]["accuracy"], share * baseline["final"]["accuracy"])


def of_the_best(bp: Mapping[int, Record]) -> Goals:
    """The authors' second measure: bp has to reach its own best accuracy, the rule the mean over seeds of bp's best."""
    mean = fmean(map(best, ended)) if (ended := [run for run in bp.values() if run["status"] == "ok"]) else 0.0
    return lambda record, baseline: (mean, best(baseline))


def best(record: Record) -> float:
    """The best test accuracy in percent during training."""
    return max(accuracy for _, accuracy in curve(record))


def to_reach(share: float) -> str:
    """The head of a column of `compute_table`."""
    return f"FLOPs to {share:.0%} of bp's accuracy, relative to bp"


def compute_table(results: Results) -> Table:
    """The cost of a training step of each setting, in FLOPs by part, and those up to shares of bp's final accuracy,
    relative to bp.

    The parts are summed over the layers under the rule, and in the numbers also listed per layer; the whole step
    includes the first layer. Settings are left out for which no run of theirs or of bp ended well, and regressions.
    """
    numbers, text = [], []
    for cell in () if MODELS.get(results.experiment.model).regression else results.cells:
        bp = results.plain_bp(cell.config.dataset)
        record, baseline = _ended(cell), bp and _ended(bp)
        if not (record and bp and baseline):
            continue
        flops_step, whole = record["flops_step"], baseline["flops_step"]
        parts, layers = (record.get(name, {}) for name in ("flops", "flops_layers"))
        row = {"setting": cell.label, **parts, "flops_step": flops_step, "step_over_bp": flops_step / whole}
        row |= {f"{layer}_{part}": count for layer, counts in layers.items() for part, count in counts.items()}
        words = {"setting": f"`{cell.label}`"}
        words |= {f"{part.replace('_', ' ')} (MFLOP)": f"{count / 1e6:.1f}" for part, count in parts.items()}
        words |= {"whole step (MFLOP)": f"{flops_step / 1e6:.0f}", "relative to bp": f"{flops_step / whole:.3f}"}
        for share in SHARES:
            found = ratios(cell, bp, of_bp(share)).values()
            lost = sum(not ratio.reached for ratio in found)
            interval = mean_interval(ratio.amount for ratio in found)
            row |= columns(f"flops_to_{share:.0%}", interval) | {f"never_{share:.0%}": lost}
            least = f"≥ {interval.estimate:.2f} ({lost} of {interval.n} never)"
            words[to_reach(share)] = least if lost else number(interval)
        numbers.append(row)
        text.append(words)
    return Table(pd.DataFrame(numbers), pd.DataFrame(text))


def _ended(cell: Cell) -> Record | None:
    """A run of the cell that ended well; None if there is none."""
    return next((record for record in cell.records.values() if record["status"] == "ok"), None)
