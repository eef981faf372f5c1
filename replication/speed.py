"""Results of `bench speed --results results`: a figure per machine, its numbers, and the speed report."""

from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from replication.figures.base import save
from replication.machines import SPEED, Rows, machines
from replication.tables import pipe_table

HEADING = """\
# Speed

Results of `bench speed` on each machine: medians of ratios whose two sides run in turn. The target was set in advance;
the limit is the best possible ratio by arithmetic. [docs/speed.md](../../docs/speed.md) says what is compared.
"""


def write(folder: Path = SPEED) -> None:
    """Writes the figure of each measured machine, and the numbers behind it."""
    for stem, machine, rows in machines(folder):
        save(*draw(rows, machine), stem)


def section(folder: Path = SPEED) -> str:
    """The report of the folder: for each machine the rows that it could measure, and the figure."""
    parts = [HEADING]
    for stem, machine, rows in machines(folder):
        parts += [f"{_title(machine)}:\n", pipe_table(pd.DataFrame(map(_shown, rows.values())))]
        parts.append(f"![Time over rank, width and population]({stem.name}.svg)\n")
    return "\n".join(parts)


def _shown(row: dict[str, Any]) -> dict[str, str]:
    value, low, high = (f"{number:.3g}" for number in (row["value"], *row["quartiles"]))
    ends = {name: "" if row[name] is None else f"{row[name]:.3g}" for name in ("target", "limit")}
    met = "" if row["target"] is None else "met" if row["value"] <= row["target"] else "missed"
    shown = {"measured": f"{value} {row['unit']}".strip(), "quartiles": f"{low} to {high}"}
    return {"row": f"`{row['name']}` {row['what']}"} | shown | ends | {"": met}


def _title(machine: dict[str, Any]) -> str:
    cpu = f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"
    return ", ".join(filter(None, [cpu, machine["gpu"], f"torch {machine['torch']}"]))


def draw(rows: Rows, machine: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Feedback time over rank, the ratio of `ldfa` to `bp` over width, and step time over population size."""
    numbers = pd.concat([over_rank(rows), over_width(rows), over_population(rows)], ignore_index=True)
    figure = Figure(figsize=(10.0, 3.0), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    figure.suptitle(_title(machine))
    part = {name: numbers[numbers["figure"] == name] for name in ("rank", "width", "population")}
    _times(left, part["rank"], "measured", "its FLOPs at full speed", "rank r", "feedback of one layer (ms)")
    _width(middle, part["width"])
    _times(right, part["population"], "at once", "one by one", "networks", "one step of all networks (ms)")
    return figure, numbers


def over_rank(rows: Rows) -> pd.DataFrame:
    """A row per rank: milliseconds, and those that its FLOPs would take at the speed of the full product."""
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
    """A row per width: the ratio of `ldfa` to `bp` in time, with its quartiles, and in counted FLOPs."""
    found = []
    for name, row in rows.items():
        kind, _, width = name.partition("-")
        if kind == "square" and width.isdecimal():
            flops, (low, high) = row["numbers"]["flops"], row["quartiles"]
            counted = flops["ldfa"] / flops["bp"]
            numbers = {"x": int(width), "measured": row["value"], "counted": counted, "low": low, "high": high}
            found.append({"figure": "width"} | numbers)
    return pd.DataFrame(found, columns=["figure", "x", "measured", "counted", "low", "high"])


def over_population(rows: Rows) -> pd.DataFrame:
    """A row per size, on the GPU if there is one: milliseconds of a step, and of as many steps of one network."""
    row = rows.get("population") or rows.get("population-cpu")
    if row is None:
        return pd.DataFrame(columns=["figure", "x", "measured", "counted"])
    seconds = row["numbers"]["seconds"]
    return pd.DataFrame(
        {
            "figure": "population",
            "x": size,
            "measured": 1e3 * seconds[f"{size} at once"],
            "counted": 1e3 * size * seconds["alone"],
        }
        for size in row["numbers"]["sizes"]
    )


def _times(ax: Axes, numbers: pd.DataFrame, measured: str, counted: str, xlabel: str, ylabel: str) -> None:
    ax.plot(numbers["x"], numbers["measured"], "o-", label=measured)
    ax.plot(numbers["x"], numbers["counted"], "--", color="0.4", label=counted)
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    _finish(ax, numbers)


def _width(ax: Axes, numbers: pd.DataFrame) -> None:
    spread = [numbers["measured"] - numbers["low"], numbers["high"] - numbers["measured"]]
    ax.errorbar(numbers["x"], numbers["measured"], spread, fmt="o-", capsize=2, label="measured, with quartiles")
    ax.plot(numbers["x"], numbers["counted"], "--", color="0.4", label="counted FLOPs")
    ax.set(xscale="log", xlabel="width of eight layers", ylabel="ldfa r = 10 over bp")
    _finish(ax, numbers)


def _finish(ax: Axes, numbers: pd.DataFrame) -> None:
    ax.set_xticks(numbers["x"], [str(x) for x in numbers["x"]])
    ax.minorticks_off()
    ax.legend(frameon=False)
    sns.despine(ax=ax)
