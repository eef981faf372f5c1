"""What `bench speed` measured on each machine, as saved in results/speed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from replication.results import FOLDER

Rows = dict[str, dict[str, Any]]
"""Rows of `bench speed` by name, each as saved."""
SPEED = FOLDER / "speed"


def machines(folder: Path) -> Iterator[tuple[Path, dict[str, Any], Rows]]:
    """For each machine its file without the suffix, its description, and the rows that it could measure, by name."""
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        rows = {row["name"]: row for row in found["rows"] if row["value"] is not None}
        yield path.with_suffix(""), found["machine"], rows


class StepTimes(NamedTuple):
    """The processor that measured training steps, and their seconds by the names of `bench.speed.steps.side`."""

    processor: str
    seconds: dict[str, float]


def step_times(model: str, scale: str, folder: Path = SPEED) -> StepTimes:
    """The training steps of a network at a scale by the first machine that measured them; empty if none did."""
    for _, machine, rows in machines(folder):
        for row in rows.values():
            if (row["numbers"].get("model"), row["numbers"].get("scale")) == (model, scale):
                return StepTimes(machine["gpu"] or machine["cpu"], row["numbers"]["seconds"])
    return StepTimes("", {})
