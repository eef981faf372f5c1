"""Tables of an experiment: one row per setting of the grid, recorded or not."""

from dataclasses import dataclass, replace
from math import isfinite

import pandas as pd

from bench.models import MODELS
from bench.records.runs import remaining_losses
from bench.records.store import Record
from bench.stats import Interval, compare, interquartile_mean, mean_interval, number
from replication.authors import authors_number
from replication.predictions import simulated_modes, teacher_of
from replication.results import Cell, Results
from replication.task_dimension import key_of
from replication.theory import singular_values


@dataclass(frozen=True)
class Table:
    """All numbers, for machines, and the main ones as text, for readers."""

    numbers: pd.DataFrame
    text: pd.DataFrame


def table_of(results: Results) -> Table:
    """The loss table for a regression, the task table for groups of classes, else the accuracy table."""
    if MODELS.get(results.experiment.model).regression:
        return loss_table(results)
    return task_table(results) if len(results.pools) < len(results.cells) else accuracy_table(results)


def accuracy_table(results: Results) -> Table:
    """Test accuracy in percent, the paired difference in points with bp on the same network, and the paper's number."""
    numbers, text = [], []
    for cell in results.cells:
        level = mean_interval(cell.accuracy.values())
        versus = compare(cell.accuracy, results.baseline_of(cell))
        against = columns("minus_bp", versus.interval) | columns("bootstrap", versus.bootstrap)
        against |= {"minus_bp_iqm": versus.iqm, "power": versus.power}
        is_bp = cell.config.rule == "bp" and not cell.options
        paper = authors_number(results.experiment.name, cell)
        numbers.append(
            {"setting": cell.label, "dataset": cell.config.dataset, "ok": cell.ok, "planned": cell.planned}
            | columns("accuracy", level)
            | {"accuracy_iqm": interquartile_mean(cell.accuracy.values())}
            | ({} if is_bp else against)
            | {"against_bp": "baseline" if is_bp else str(versus.verdict), "seeds_needed": versus.seeds_needed}
            | _rates(cell)
            | {"paper": paper}
        )
        text.append(
            {
                "setting": f"`{cell.label}`",
                "runs": cell.runs,
                "test accuracy (%)": number(level),
                "minus bp (points)": "" if is_bp else number(versus.interval, "+.2f"),
                "against bp": "baseline" if is_bp else str(versus.verdict),
                "paper (%)": paper,
            }
        )
    return Table(pd.DataFrame(numbers), pd.DataFrame(text))


def task_table(results: Results) -> Table:
    """Test accuracy on the groups of d classes, and its difference and ratio to bp on the same groups and width."""
    bp = {key_of(pool): pool.accuracy for pool in results.pools if pool.config.rule == "bp"}
    numbers, text = [], []
    for pool in sorted(results.pools, key=lambda pool: (*key_of(pool), pool.rank or 0)):
        classes, width, dataset = key_of(pool)
        setting = replace(pool.config, model_options={}).setting
        baseline = bp.get(key_of(pool), {})
        level = mean_interval(pool.accuracy.values())
        ratio = mean_interval(100 * a / baseline[seed] for seed, a in pool.accuracy.items() if seed in baseline)
        versus = compare(pool.accuracy, baseline)
        is_bp = pool.config.rule == "bp"
        numbers.append(
            {"dataset": dataset, "classes": classes, "groups": len(pool.cells), "width": width, "setting": setting}
            | {"ok": sum(cell.ok for cell in pool.cells), "planned": sum(cell.planned for cell in pool.cells)}
            | columns("accuracy", level)
            | ({} if is_bp else columns("minus_bp", versus.interval) | columns("bootstrap", versus.bootstrap))
            | ({} if is_bp else {"minus_bp_iqm": versus.iqm, "power": versus.power, **columns("percent_of_bp", ratio)})
            | {"against_bp": "baseline" if is_bp else str(versus.verdict), "seeds_needed": versus.seeds_needed}
            | _rates(pool.cells[0])
        )
        text.append(
            {
                "d": classes,
                "groups": len(pool.cells),
                "width": width,
                "setting": f"`{setting}`",
                "runs": pool.runs,
                "test accuracy (%)": number(level),
                "minus bp (points)": "" if is_bp else number(versus.interval, "+.2f"),
                "against bp": "baseline" if is_bp else str(versus.verdict),
                "of bp (%)": "" if is_bp else number(ratio, ".1f"),
            }
        )
    return Table(pd.DataFrame(numbers), pd.DataFrame(text))


def loss_table(results: Results) -> Table:
    """The remaining loss on the training samples at the end of training, and the strength of the teacher's modes."""
    numbers, text = [], []
    for cell in results.cells:
        left = mean_interval(remaining_losses(cell.records).values())
        strength = mean_interval(cell.values(mode_strength, 0.0).values())
        numbers.append(
            {"setting": cell.label, "dataset": cell.config.dataset, "ok": cell.ok, "planned": cell.planned}
            | columns("remaining_loss", left)
            | columns("mode_strength", strength)
            | _rates(cell)
        )
        text.append(
            {
                "setting": f"`{cell.label}`",
                "dataset": cell.config.dataset,
                "runs": cell.runs,
                "remaining loss (%)": number(left, ".3g"),
                "mean mode strength (% of the teacher's)": number(strength, ".1f"),
            }
        )
    return Table(pd.DataFrame(numbers), pd.DataFrame(text))


def mode_strength(record: Record) -> float:
    """Final strength of a mode in percent of its singular value, averaged over the teacher's nonzero modes."""
    strengths = simulated_modes(record)[-1]
    return 100 * float((strengths / singular_values(teacher_of(record))[: len(strengths)]).mean())


def _rates(cell: Cell) -> dict[str, float | None]:
    return {name: getattr(cell.config, name) for name in ("lr", "weight_decay", "feedback_rate")}


def columns(name: str, interval: Interval) -> dict[str, float | None]:
    """An interval as columns of a table for machines; an infinite bound is left empty."""
    low, high = (bound if isfinite(bound) else None for bound in (interval.low, interval.high))
    return {name: interval.estimate, f"{name}_low": low, f"{name}_high": high}


def csv(table: pd.DataFrame) -> str:
    """A data frame as CSV, numbers to six significant digits."""
    return table.to_csv(index=False, float_format="%.6g")


def pipe_table(table: pd.DataFrame) -> str:
    """A data frame of strings as a Markdown table."""
    head = "| " + " | ".join(table.columns) + " |\n| " + " | ".join("---" for _ in table.columns) + " |\n"
    return head + "".join("| " + " | ".join(map(str, row)) + " |\n" for row in table.itertuples(index=False))
