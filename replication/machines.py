"""What `bench speed` measured on each machine, as saved in results/speed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def step_seconds(model: str, scale: str, folder: Path = SPEED) -> dict[str, float]:
    """Seconds of a training step of a network at a scale, by the names of `bench.speed.steps.side`.

    They are those of the first machine that measured it; empty if none did.
    """
    for _, _, rows in machines(folder):
        for row in rows.values():
            if (row["numbers"].get("model"), row["numbers"].get("scale")) == (model, scale):
                return row["numbers"]["seconds"]
    return {}
