"""Figures of what `bench speed --results results` measured: one a machine, beside its numbers."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.figures.base import save
from replication.results import FOLDER

Rows = dict[str, dict[str, Any]]


def write(folder: Path = FOLDER / "speed") -> None:
    """Writes the figure of each machine of which there are measurements, and the numbers behind it."""
    for path in sorted(folder.glob("*.json")):
        measured = json.loads(path.read_text())
        rows = {row["name"]: row for row in measured["rows"] if row["value"] is not None}
        save(*draw(rows, measured["machine"]), path.with_suffix(""))


def draw(rows: Rows, machine: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Seconds of the feedback over its rank, and `ldfa` over `bp` over the width of a network."""
    numbers = pd.concat([over_rank(rows), over_width(rows)], ignore_index=True)
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, torch {machine['torch']}")
    _rank(left, numbers[numbers["figure"] == "rank"])
    _width(right, numbers[numbers["figure"] == "width"])
    return figure, numbers


def over_rank(rows: Rows) -> pd.DataFrame:
    """A row a rank: milliseconds, and those that its FLOPs take at the speed of the full product."""
    if "rank" not in rows:
        return pd.DataFrame(columns=["figure", "x", "measured", "counted"])
    numbers = rows["rank"]["numbers"]
    seconds, flops, full = numbers["seconds"], numbers["flops"], "full product"
    return pd.DataFrame(
        {
            "figure": "rank",
            "x": rank,
            "measured": 1e3 * seconds[name],
            "counted": 1e3 * flops[name] * seconds[full] / flops[full],
        }
        for rank in numbers["ranks"]
        if (name := f"r = {rank}")
    )


def over_width(rows: Rows) -> pd.DataFrame:
    """A row a width: `ldfa` over `bp` in time, with its quartiles, and in counted FLOPs."""
    found = []
    for name, row in rows.items():
        kind, _, width = name.partition("-")
        if kind == "square" and width.isdecimal():
            flops, (low, high) = row["numbers"]["flops"], row["quartiles"]
            counted = flops["ldfa"] / flops["bp"]
            numbers = {"x": int(width), "measured": row["value"], "counted": counted, "low": low, "high": high}
            found.append({"figure": "width"} | numbers)
    return pd.DataFrame(found, columns=["figure", "x", "measured", "counted", "low", "high"])


def _rank(ax: Axes, numbers: pd.DataFrame) -> None:
    ax.plot(numbers["x"], numbers["measured"], "o-", label="measured")
    ax.plot(numbers["x"], numbers["counted"], "--", color="0.4", label="its FLOPs at full speed")
    ax.set(xscale="log", yscale="log", xlabel="rank r", ylabel="feedback of one layer (ms)")
    ax.set_xticks(numbers["x"], [str(rank) for rank in numbers["x"]])
    _finish(ax)


def _width(ax: Axes, numbers: pd.DataFrame) -> None:
    spread = [numbers["measured"] - numbers["low"], numbers["high"] - numbers["measured"]]
    ax.errorbar(numbers["x"], numbers["measured"], spread, fmt="o-", capsize=2, label="measured, with quartiles")
    ax.plot(numbers["x"], numbers["counted"], "--", color="0.4", label="counted FLOPs")
    ax.set(xscale="log", xlabel="width of eight layers", ylabel="ldfa r = 10 over bp")
    ax.set_xticks(numbers["x"], [str(width) for width in numbers["x"]])
    _finish(ax)


def _finish(ax: Axes) -> None:
    ax.minorticks_off()
    ax.legend(frameon=False)
    sns.despine(ax=ax)
