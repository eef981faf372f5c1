"""The rows of the leaderboard on the page: formatted numbers, the position of each interval, a citation."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite, isnan, nan
from typing import Any

import pandas as pd

from bench.stats import MIN_SEEDS, Interval, number

READS = {"no": "local signals", "sign": "signs of the weights", "yes": "the weights"}
"""What a rule reads to send the error down or to learn, by `reads_weights`."""


def locality(reads_weights: str, reads_targets: bool) -> str:
    """What a rule reads, in words."""
    return READS[reads_weights] + (" and targets" if reads_targets else "")


@dataclass(frozen=True)
class Row:
    """A setting on the page."""

    said: Mapping[str, Any]
    """The row of the leaderboard; empty fields are None."""
    result: str
    against: str
    """The difference from bp, without its verdict."""
    span: tuple[float, float, float]
    """Low end, mean and high end, in percent of the range from the lowest to the highest of its scale, task and data.

    An interval of too few seeds may exceed the range, and is cut there.
    """

    @property
    def name(self) -> str:
        """Rule, rank, variant and setting: `ldfa r=10 model_options.width=64`."""
        rank = self.said["rank"] and ("{}" if "=" in self.said["rank"] else "r={}").format(self.said["rank"])
        return " ".join(filter(None, [self.said["rule"], rank, self.said["variant"], self.said["setting"]]))

    @property
    def id(self) -> str:
        """Its name within the page, from the digest of its records."""
        return f"row-{self.said['records']}"

    @property
    def locality(self) -> str:
        """What the rule reads; empty if no run ended."""
        weights = self.said["reads_weights"]
        return locality(weights, self.said["reads_targets"]) if weights else ""

    @property
    def cells(self) -> dict[str, Any]:
        """The value by which each column is sorted and filtered; an empty string if there is none."""
        said = {name: self.said[name] for name in ("scale", "task", "dataset", "level", "n", "seconds")}
        said |= {"result": self.said["mean"], "against": self.said["minus_bp"]}
        said |= {"flops": self.said["training_flops"], "feedback": self.said["feedback_parameters"]}
        return {key: "" if value is None else value for key, value in said.items()} | {"locality": self.locality}

    @property
    def citation(self) -> str:
        """Its citation, as in docs/citing.md."""
        said = self.said
        rank = f" at rank {said['rank']}" if said["rank"] else ""
        changed = "".join(f" with {words}" for words in (said["variant"], said["setting"]) if words)
        is_loss = "loss" in said["measure"]
        found = f"leaves {self.result}% of the initial loss" if is_loss else f"reaches {self.result}% test accuracy"
        return (
            f"{said['rule']}/{said['rule_version']}{rank}{changed} {found} after the last epoch on {said['task']}, "
            f"{said['dataset']}, scale {said['scale']}, level {said['level']}, n = {said['n']} "
            f"(benchmark {said['benchmark']}, records {said['records']})."
        )


def rows_of(board: pd.DataFrame) -> list[Row]:
    """The rows of a leaderboard."""
    shown = []
    for _, block in board.groupby(["scale", "task", "dataset"], sort=False):
        enough = block[block["n"] >= MIN_SEEDS]
        lowest = min([*block["mean"], *enough["mean_low"]])
        highest = max([*block["mean"], *enough["mean_high"]])
        for said in ({key: _plain(value) for key, value in row.items()} for row in block.to_dict("records")):
            level, versus = _interval(said, "mean", said["n"]), _interval(said, "minus_bp", said["n_paired"])
            form = ".3g" if "loss" in said["measure"] else ".2f"
            against = number(versus, f"+{form}") if said["n_paired"] else ""
            shown.append(Row(said, number(level, form), against, _span(level, lowest, highest)))
    return shown


def _plain(value: Any) -> Any:
    """A value of a data frame; None if it is missing."""
    return None if value is pd.NA or (isinstance(value, float) and isnan(value)) else value


def _interval(said: Mapping[str, Any], name: str, n: int) -> Interval:
    """The interval of a column; an empty bound is infinite."""
    low, high = said[f"{name}_low"], said[f"{name}_high"]
    mean = nan if said[name] is None else said[name]
    return Interval(mean, -inf if low is None else low, inf if high is None else high, n)


def _span(level: Interval, lowest: float, highest: float) -> tuple[float, float, float]:
    """The interval in percent of the range between two numbers, cut there; only the mean if it has no bounds."""
    ends = (level.low, level.estimate, level.high) if isfinite(level.low) else (level.estimate,) * 3
    low, mean, high = (min(max((end - lowest) / (highest - lowest or 1.0), 0.0), 1.0) for end in ends)
    return round(100 * low, 1), round(100 * mean, 1), round(100 * high, 1)
