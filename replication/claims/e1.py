"""E1: on the CNN and the transformer, low-dimensional feedback needs less compute for the same accuracy."""

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean, median

import pandas as pd

from bench.stats import compare, number
from bench.training.length import steps
from replication.claims.base import Claim, Judgement, Part, above, bounded, floor_remark, told
from replication.compute import Goals, authors_step, flops, of_bp, of_the_best, of_their_own, ratios, step_ratio
from replication.results import Cell, Results
from replication.tables import Table, columns
from replication.verdicts import ClaimVerdict, Level

LIMIT = 0.8
SHARE = 0.99
"""Of bp's final accuracy, to which FLOPs are counted."""
AUTHORS_SHARE = 0.90
"""Of a run's own final accuracy, in the authors' first measure."""
CNN, VIT = ("ldfa", "1/8"), ("ldfa-track", "32")
"""The rule and the rank at which a step of the authors' networks is judged."""


class Compute(Claim):
    title = "CNN and transformer, compute to equal accuracy"
    statement = (
        "On the CNN and the vision transformer the compute of training falls by more than 20% at equal accuracy "
        "(version 4 of the paper)."
    )
    asks = "whether low-dimensional feedback saves 20% of the compute of training at equal accuracy"
    finds = "On the CNN and the vision transformer low-dimensional feedback saves over 20% of the compute of training."
    criterion = (
        "On both networks, CNN with `ldfa` at r = 1/8, ViT with `ldfa-track` at r = 32: (1) the FLOPs of one training "
        "step of the authors' network at their batch, counted by running one, are below 0.8 of those of `bp`; (2) at "
        "that rank the rule matches `bp` (95% interval above -1 point); (3) the FLOPs it takes to reach 99% of the "
        "final accuracy of `bp`, over those that `bp` takes, lie below 0.8 with their whole 95% interval. A run that "
        "never gets there enters with all its training, and then the condition cannot hold. Where the ViT is slim, "
        "(2) and (3) are of the largest recorded rank whose step is below 0.8. (1) needs no training: its level is "
        "`paper`, whatever the runs are."
    )
    experiments = ("cnn-rank", "vit-rank")
    figure = "compute-step"
    deviations = (
        "FLOPs are those of the matrix products of all layers: forward, error path, weight gradient and feedback "
        "update; with no error path at all two thirds would be left. The ratio depends on the batch where feedback "
        "learns from the weights (`ldfa-track`) or from their gradient (`ldfa-hebb`), which takes as much for a small "
        "batch as for a large one. Accuracy is tested after each epoch, linear in between. The MLP's curves stand in "
        "the section of its experiment, as context.",
    )

    def reads(self, cnn: Results, vit: Results) -> list[Cell]:
        return [cell for pair in _pairs(cnn, vit).values() for cell in pair]

    def judge(self, cnn: Results, vit: Results) -> Judgement:
        parts, context, notes = [], [], []
        for name, (rule, bp) in _pairs(cnn, vit).items():
            step = told(
                _authors(name),
                f"a step of the {name} saves less than 20%",
                f"a step of the authors' {name} saves 20%",
            )
            accuracy = told(
                above(f"{name}, {rule.label} minus bp", compare(rule.accuracy, bp.accuracy)),
                f"the {name} loses more than a point where its steps are cheap enough",
                f"the {name} stays within a point of backpropagation",
            )
            ours = _saving(f"{name}, {rule.label}: FLOPs to {SHARE:.0%} of bp's accuracy", rule, bp, of_bp(SHARE))
            theirs = [
                _saving(f"{name}, {rule.label}: {what}", rule, bp, goals)
                for what, goals in _authors_measures(bp).items()
            ]
            saved = f"training the {name} to the accuracy of backpropagation"
            parts += [step, accuracy, told(ours, f"{saved} does not save 20%", f"{saved} saves 20%")]
            context += theirs
            notes += _by_definition(name, ours, theirs)
        remark = " ".join(filter(None, map(floor_remark, (cnn, vit))))
        return Judgement(tuple(parts), tuple(context), remark, tuple(notes))

    def details(self, cnn: Results, vit: Results) -> Table | None:
        """What a step of each setting takes beside bp's, in counted FLOPs and in measured time."""
        rows = [row for found in (cnn, vit) for row in steps_of(found)]
        shown = pd.DataFrame(
            {
                "network": row["network"],
                "setting": f"`{row['setting']}`",
                "FLOPs of a step over bp's, authors' network": _ratio(row["authors_flops"]),
                "network of the runs": _ratio(row["flops"]),
                "its measured time over bp's": _ratio(row["seconds"]),
                "accuracy minus bp's (points)": row["shown"],
            }
            for row in rows
        )
        return Table(pd.DataFrame(rows).drop(columns="shown"), shown)


def steps_of(found: Results) -> Iterator[dict]:
    """A row a setting of an experiment: FLOPs and median seconds of a step over bp's, and accuracy minus bp's.

    FLOPs of the authors' network are counted, those of the runs' network too where it has other images than CIFAR's;
    seconds are of the recorded runs, with their tests and measures, NaN where there are none.
    """
    bp, model = found.cell("bp"), found.experiment.model
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
            "seconds": _seconds(cell) / _seconds(bp),
            **columns("minus_bp", versus),
            "shown": number(versus, "+.2f"),
        }


def _seconds(cell: Cell) -> float:
    """Median time of a step; NaN without runs."""
    taken = [record["seconds"] for record in cell.records.values() if record["status"] == "ok"]
    return median(taken) / steps(cell.config) if taken else float("nan")


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value == value else ""


def _pairs(cnn: Results, vit: Results) -> dict[str, tuple[Cell, Cell]]:
    """By the name of the network, the cell that is judged and bp's."""
    return {"CNN": (cnn.cell(*CNN), cnn.cell("bp")), "ViT": (_saves(vit), vit.cell("bp"))}


def _saves(vit: Results) -> Cell:
    """Of the ranks below full, the largest whose step is below the limit; the smallest where none is."""
    rule, _ = VIT
    ranked = sorted((c for c in vit.cells if c.config.rule == rule and c.rank), key=lambda cell: cell.rank or 0)
    return next((cell for cell in reversed(ranked) if step_ratio(cell.config) < LIMIT), ranked[0])


def _authors(name: str) -> Part:
    """Part 1: a step of the authors' network."""
    rule, rank = CNN if name == "CNN" else VIT
    ratio = authors_step(name.lower(), rule, rank)
    verdict = ClaimVerdict.HOLDS if ratio < LIMIT else ClaimVerdict.FAILS
    condition = f"{name} of the authors, {rule} r={rank}: FLOPs of a step over bp's, below {LIMIT:g}"
    return Part(condition, verdict, f"{ratio:.3f}", 0, ratio, level=Level.PAPER)


def _authors_measures(bp: Cell) -> dict[str, Goals]:
    """The authors' two measures, in words."""
    return {
        f"FLOPs to {AUTHORS_SHARE:.0%} of the run's own accuracy": of_their_own(AUTHORS_SHARE),
        "FLOPs to the mean of bp's best accuracies, bp's to its own best epoch": of_the_best(bp.records),
    }


def _saving(condition: str, rule: Cell, bp: Cell, goals: Goals) -> Part:
    """Part 3: a setting reaches its goal at less than `LIMIT` of the FLOPs at which bp reaches its own."""
    found = ratios(rule, bp, goals, flops)
    part = bounded(f"{condition}, over bp's, below {LIMIT:g}", (r.amount for r in found.values()), below=LIMIT)
    if lost := sum(not ratio.reached for ratio in found.values()):
        held = part.verdict is ClaimVerdict.HOLDS
        part = replace(
            part,
            number=f"at least {part.number}; {lost} of {part.n} never get there",
            verdict=ClaimVerdict.OPEN if held else part.verdict,
        )
    return part


def _by_definition(name: str, ours: Part, theirs: list[Part]) -> list[str]:
    """How much of a saving comes with the authors' definitions of it; nothing without runs."""
    if not ours.n:
        return []
    own, best = (1 - part.estimate for part in theirs)
    here = 1 - ours.estimate
    return [
        f"{name}: the saving is {here:.0%} where both have to reach the same accuracy, {own:.0%} where each has to "
        f"reach {AUTHORS_SHARE:.0%} of its own, and {best:.0%} where bp has to reach its own best epoch and the rule "
        f"the mean of these: {100 * (fmean((own, best)) - here):+.0f} points on average come with the definition."
    ]


CLAIM = Compute()
