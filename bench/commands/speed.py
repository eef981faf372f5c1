"""`bench speed`: the rows of `bench.speed`, as a table or as JSON."""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import typer

from bench.commands.show import table
from bench.errors import UsageError, unknown
from bench.files import write_text
from bench.records.source import source
from bench.records.store import writable
from bench.speed import ROWS
from bench.speed.base import Row
from bench.speed.machine import describe, slug
from bench.training.process import peak_memory, train_alone

SCHEMA = 1
FAILED = "failed"
MEGA, GIGA = 1e6, 1e9
COLUMNS = ["row", "what", "value", "quartiles", "by CPU time", "target", "limit", "rounds"]
SIDES = ["row", "side", "ms", "GFLOP", "peak memory of the process so far (MB)"]


def speed(names: Sequence[str] | None, *, results: Path | None, as_json: bool) -> int:
    """Measures rows (all if None), prints them and saves them to `results`. A missed target is not a failure."""
    for name in names or ():
        if name not in ROWS:
            raise unknown("row", name, ROWS)
    if names and results:
        raise UsageError("--results: all rows of a machine are saved together; expected: no --rows")
    if results:
        writable(results / "speed")
    train_alone()
    machine, measured = describe(), []
    for name in names or ROWS:
        typer.echo(f"{name} ...", err=True)
        measured.append(measure(ROWS[name]))
    found = {"schema": SCHEMA, "source": str(source()), "machine": machine, "rows": measured}
    if results:
        text = json.dumps(found, indent=1) + "\n"
        write_text(results / "speed" / f"{slug(machine)}.json", text)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        table(", ".join(f"{key} {value}" for key, value in machine.items()), COLUMNS, map(_cells, measured))
        table("medians of each side", SIDES, (cells for row in measured for cells in _sides(row)))
    return int(any(row.get("note", "").startswith(FAILED) for row in measured))


def measure(row: Row) -> dict[str, Any]:
    """A row for the JSON output; `value` is None if it cannot be measured here, and `note` says why."""
    described = {name: getattr(row, name) for name in ("name", "what", "unit", "target", "limit", "device")}
    lacking = _lacking(row)
    if lacking:
        return described | {"value": None, "note": lacking}
    if row.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        measured = row.measure()
    except RuntimeError as error:  # out of memory, or an unsupported operation
        return described | {"value": None, "note": f"{FAILED}: {str(error).partition(chr(10))[0]}"}
    return described | asdict(measured) | {"peak_memory_bytes": peak_memory(row.device)}


def _lacking(row: Row) -> str | None:
    if row.device == "cuda" and not torch.cuda.is_available():
        return "needs a GPU"
    if row.device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "needs a GPU with bfloat16"
    if row.package and importlib.util.find_spec(row.package) is None:
        return f"{row.package} is not installed"
    return None


def _cells(row: dict[str, Any]) -> list[Any]:
    start, end = [row["name"], row["what"]], [row["target"], row["limit"]]
    if row["value"] is None:
        return [*start, row["note"], None, None, *end, None]
    value, low, high = (f"{number:.3f}" for number in (row["value"], *row["quartiles"]))
    by_cpu = None if row["cpu_value"] is None else f"{row['cpu_value']:.3f}"
    return [*start, f"{value} {row['unit']}".strip(), f"{low} to {high}", by_cpu, *end, row["rounds"]]


def _sides(row: dict[str, Any]) -> Iterator[list[Any]]:
    numbers = row.get("numbers", {})
    for side, seconds in numbers.get("seconds", {}).items():
        flops = numbers.get("flops", {}).get(side)
        gigaflops = None if flops is None else round(flops / GIGA, 3)
        yield [row["name"], side, round(1e3 * seconds, 3), gigaflops, round(row["peak_memory_bytes"] / MEGA)]
