"""E1: on the CNN and the transformer, low-dimensional feedback needs less compute for the same accuracy."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from statistics import fmean

import pandas as pd

from bench.speed.steps import side
from bench.stats import compare, number
from replication.claims.base import Claim, Judgement, Part, above, bounded, floor_remark, told_together
from replication.compute import Goals, Reached, authors_step, of_bp, of_the_best, of_their_own, ratios, step_ratio
from replication.machines import step_times
from replication.results import Cell, Results
from replication.tables import Table, columns
from replication.verdicts import ClaimVerdict, Level

LIMIT = 0.8
SHARE = 0.99
"""Share of bp's final accuracy up to which FLOPs are counted."""
AUTHORS_SHARE = 0.90
"""Share of a run's own final accuracy, in the authors' first measure."""
CNN, VIT = ("ldfa", "1/8"), ("ldfa-track", "32")
"""Rule and rank at which a step of the authors' networks is judged."""


class Compute(Claim):
    title = "CNN and transformer, compute to equal accuracy"
    statement = (
        "On the CNN and the vision transformer, training takes over 20% less compute at equal accuracy (version 4 of "
        "the paper)."
    )
    asks = "whether low-dimensional feedback saves 20% of the compute of training at equal accuracy"
    finds = "On the CNN and the vision transformer, low-dimensional feedback saves over 20% of the compute of training."
    criterion = (
        "On both networks (CNN: `ldfa` at r = 1/8; ViT: `ldfa-track` at r = 32): (1) one training step of the authors' "
        "network at their batch size, counted by running one, takes less than 0.8 of the FLOPs of `bp`; (2) at that "
        "rank the rule matches `bp` (95% interval above -1 point); (3) the FLOPs that it takes to reach 99% of the "
        "final accuracy of `bp`, divided by those that `bp` takes, are below 0.8 with their whole 95% interval. A run "
        "that never reaches it counts with all its training, and then (3) cannot hold. If the ViT is slim, (2) and "
        "(3) use the largest recorded rank whose step takes less than 0.8. (1) needs no training: its level is "
        "`paper`, whatever the level of the runs."
    )
    experiments = ("cnn-rank", "vit-rank")
    figure = "compute-step"
    deviations = (
        "FLOPs are those of the matrix products of all layers: forward pass, error path, weight gradient and feedback "
        "update; with no error path at all, two thirds would remain. The ratio depends on the batch size if feedback "
        "learns from the weights (`ldfa-track`) or from their gradient (`ldfa-hebb`), because this costs the same for "
        "a small batch as for a large one. Q's gradient P'dW is computed from the low-dimensional error, (GP)'X, which "
        "costs more than P'dW from a known dW if a batch has more positions than the layer has outputs. Accuracy is "
        "tested after each epoch and interpolated linearly. On a schedule that ends in a low rate, the last points of "
        "accuracy come in its last epochs under every rule, so that (3) depends on the schedule too. At scale cpu, "
        "the ViT's judged rank is below the number of classes and cuts the output layer too. The MLP's curves are in "
        "the section of its experiment, as context.",
    )

    def reads(self, cnn: Results, vit: Results) -> list[Cell]:
        return [cell for pair in _pairs(cnn, vit).values() for cell in pair]

    def judge(self, cnn: Results, vit: Results) -> Judgement:
        step, accuracy, training, context, notes = {}, {}, {}, [], []
        for name, (rule, bp) in _pairs(cnn, vit).items():
            network = f"the {name}"
            step[network] = _authors(name)
            accuracy[network] = above(f"{name}, {rule.label} minus bp", compare(rule.accuracy, bp.accuracy))
            found = {what: ratios(rule, bp, goals) for what, goals in _measures(bp).items()}
            training[network], *theirs = (_saving(f"{name}, {rule.label}: {what}", r) for what, r in found.items())
            context += theirs
            notes += _by_definition(f"{name}, {rule.label}", [list(runs.values()) for runs in found.values()])
        parts = (
            *told_together(
                step,
                "a training step of the authors' network saves less than 20% on {}",
                "a training step of the authors' network saves over 20% on {}",
            ),
            *told_together(
                accuracy,
                "at a rank that saves 20% of a step, accuracy falls by more than a point on {}",
                "at a rank that saves 20% of a step, accuracy stays within a point of backpropagation on {}",
            ),
            *told_together(
                training,
                "training to the accuracy of backpropagation does not save 20% on {}",
                "training to the accuracy of backpropagation saves 20% on {}",
            ),
        )
        notes += _measured(_pairs(cnn, vit), cnn.scale)
        remark = " ".join(filter(None, map(floor_remark, (cnn, vit))))
        return Judgement(parts, tuple(context), remark, notes=tuple(notes))

    def details(self, cnn: Results, vit: Results) -> Table | None:
        """The cost of a step of each setting relative to bp, in counted FLOPs and in measured time."""
        rows = [row for found in (cnn, vit) for row in steps_of(found)]
        shown = pd.DataFrame(
            {
                "network": row["network"],
                "setting": f"`{row['setting']}`",
                "FLOPs of a step relative to bp, authors' network": _ratio(row["authors_flops"]),
                f"FLOPs, network of scale {cnn.scale}": _ratio(row["flops"]),
                "the same, time of a step by `bench speed`": _ratio(row["seconds"]),
                "accuracy minus bp (points)": row["shown"],
            }
            for row in rows
        )
        return Table(pd.DataFrame(rows).drop(columns="shown"), shown)


def steps_of(found: Results) -> Iterator[dict]:
    """One row per setting of an experiment: FLOPs and seconds of a step relative to bp, and accuracy minus bp.

    FLOPs are counted on images of CIFAR's shape, for the authors' network and for that of the runs; seconds are those
    that `bench speed` measured at the scale of the runs, and NaN if it did not.
    """
    bp, model = found.cell("bp"), found.experiment.model
    seconds = step_times(model, found.scale).seconds
    for cell in found.cells:
        if cell is bp:
            continue
        versus = compare(cell.accuracy, bp.accuracy).interval
        yield {
            "network": model,
            "setting": cell.label,
            "rule": cell.config.rule,
            "rank": cell.config.rank,
            "authors_flops": authors_step(model, cell.config.rule, cell.config.rank),
            "flops": step_ratio(cell.config),
            "seconds": seconds.get(side(cell.config), math.nan) / seconds.get("bp", math.nan),
            **columns("minus_bp", versus),
            "shown": number(versus, "+.2f"),
        }


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value == value else ""


def _pairs(cnn: Results, vit: Results) -> dict[str, tuple[Cell, Cell]]:
    """The judged cell and that of bp, by the name of the network."""
    return {"CNN": (cnn.cell(*CNN), cnn.cell("bp")), "ViT": (_saves(vit), vit.cell("bp"))}


def _saves(vit: Results) -> Cell:
    """The largest rank below full whose step is below the limit; the smallest if none is."""
    rule, _ = VIT
    ranked = sorted((c for c in vit.cells if c.config.rule == rule and c.rank), key=lambda cell: cell.rank or 0)
    return next((cell for cell in reversed(ranked) if step_ratio(cell.config) < LIMIT), ranked[0])


def _authors(name: str) -> Part:
    """Part 1: a step of the authors' network."""
    rule, rank = CNN if name == "CNN" else VIT
    ratio = authors_step(name.lower(), rule, rank)
    verdict = ClaimVerdict.HOLDS if ratio < LIMIT else ClaimVerdict.FAILS
    condition = f"authors' {name}, {rule} r={rank}: FLOPs of a step relative to bp, below {LIMIT:g}"
    return Part(condition, verdict, f"{ratio:.3f}", 0, ratio, level=Level.PAPER)


def _measures(bp: Cell) -> dict[str, Goals]:
    """In words: ours, then the authors' two."""
    return {
        f"FLOPs to {SHARE:.0%} of bp's accuracy": of_bp(SHARE),
        f"FLOPs to {AUTHORS_SHARE:.0%} of the run's own accuracy": of_their_own(AUTHORS_SHARE),
        "FLOPs to the mean of bp's best accuracies (bp: to its own best epoch)": of_the_best(bp.records),
    }


def _saving(condition: str, found: Mapping[int, Reached]) -> Part:
    """Part 3: a setting reaches its goal with less than `LIMIT` of the FLOPs with which bp reaches its own."""
    part = bounded(f"{condition}, relative to bp, below {LIMIT:g}", (r.amount for r in found.values()), below=LIMIT)
    if lost := sum(not ratio.reached for ratio in found.values()):
        held = part.verdict is ClaimVerdict.HOLDS
        part = replace(
            part,
            number=f"at least {part.number}; {lost} of {part.n} never reach it",
            verdict=ClaimVerdict.OPEN if held else part.verdict,
        )
    return part


def _by_definition(label: str, found: list[list[Reached]]) -> list[str]:
    """What is saved by our definition and by the authors' two; empty without runs."""
    if not all(found):
        return []
    here, of_its_own, of_the_mean = map(_saved, found)
    words = (
        f"Training compute that {label} saves, by what both have to reach: {SHARE:.0%} of the accuracy of bp, {here}; "
        f"{AUTHORS_SHARE:.0%} of each run's own, {of_its_own}; the mean of bp's best epochs, {of_the_mean}"
    )
    if any(not run.reached for runs in found for run in runs):
        return [f"{words}."]
    first, *theirs = (1 - fmean(run.amount for run in runs) for runs in found)
    return [f"{words}. The authors' two definitions add {100 * (fmean(theirs) - first):+.0f} points on average."]


def _measured(pairs: Mapping[str, tuple[Cell, Cell]], scale: str) -> list[str]:
    """The time of a step relative to bp, as `bench speed` measured it; none where it did not."""
    found = []
    for name, (rule, _) in pairs.items():
        processor, seconds = step_times(rule.config.model, scale)
        if (ours := seconds.get(side(rule.config))) and (theirs := seconds.get("bp")):
            found.append(f"the {name} under {rule.label} {ours / theirs:.2f} of the time of bp ({processor})")
    return [f"A step of these runs' networks takes, by `bench speed`: {', '.join(found)}."] if found else []


def _saved(runs: list[Reached]) -> str:
    """The mean saving; a bound if some runs never reach the accuracy, nothing if none does."""
    lost = sum(not run.reached for run in runs)
    if lost == len(runs):
        return f"none ({lost} of {lost} runs never get there)"
    saving = f"{1 - fmean(run.amount for run in runs):.0%}"
    return f"at most {saving} ({lost} of {len(runs)} runs never get there)" if lost else saving


CLAIM = Compute()
