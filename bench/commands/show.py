"""How results and times are worded, and tables in the terminal."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from bench.records.store import Record
from bench.training.process import Terminated

if TYPE_CHECKING:
    from bench.sweeps.roofline import Cost

PLAIN_WIDTH = 160
"""Width in columns of a table written to a file or a pipe."""


def console() -> Console:
    """Standard output."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, markup=False)


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Prints rows; None shows as a dash, and columns with only numbers are right-aligned."""
    rows = [list(row) for row in rows]
    grid = Table(title=title, title_justify="left")
    for name, values in zip(columns, zip(*rows, strict=True) if rows else (), strict=False):
        grid.add_column(name, justify="right" if all(isinstance(value, int | float) for value in values) else "left")
    for row in rows:
        grid.add_row(*("-" if value is None else str(value) for value in row))
    console().print(grid)


def outcome(record: Record) -> str:
    """`test accuracy 51.20 %`, or how the run ended instead."""
    if record["status"] == "failed":
        return f"failed: {record['reason']}"
    if record["status"] == "diverged":
        return f"diverged in epoch {record['history'][-1]['epoch']}"
    if record["status"] == "paused":
        return "paused"
    split, final = record["config"]["split"], record["final"]
    return f"{split} accuracy {final['accuracy']:.2f} %" if "accuracy" in final else f"{split} loss {final['loss']:.4g}"


def left_out(refused: Mapping[Path, str]) -> None:
    """Names files that are not valid records, on standard error: one line per reason, with the first such file."""
    by_reason: dict[str, list[Path]] = {}
    for path, reason in refused.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, (first, *others) in by_reason.items():
        more = f" and {len(others)} more" if others else ""
        typer.echo(f"warning: skipped: {first}{more}: {reason}", err=True)


def duration(seconds: float) -> str:
    """`4.2 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


COST_COLUMNS = ("runs", "launches", "FLOPs", "bytes", "time")


def in_words(cost: "Cost") -> list[str]:
    """The cost of runs on a GPU, by `COST_COLUMNS`."""
    numbers = (f"{number:.1e}" for number in (cost.launches, cost.flops, cost.bytes))
    return [str(cost.runs), *numbers, duration(cost.seconds)]


def interrupted(by: KeyboardInterrupt, recorded: int) -> NoReturn:
    """Ends the command as Ctrl-C or SIGTERM does."""
    word, status = ("terminated", 143) if isinstance(by, Terminated) else ("interrupted", 130)
    typer.echo(f"{word}; {recorded} runs recorded; the same command resumes the rest", err=True)
    raise typer.Exit(status)
