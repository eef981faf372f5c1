"""The learning curves on the page: each seed of each setting, thinned to the resolution of a screen."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from replication.curves import accuracies, losses
from replication.leaderboard import Entry
from replication.page.rows import Row

MOST = 80
"""Largest number of points of a curve."""


def groups(found: Sequence[Entry], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The settings of each task on each dataset at each scale, in the order of their rows, ready for JSON.

    `flops` of a setting and `seconds` of a run are for all its epochs; None and 0 if no run ended.
    """
    shown = []
    for (scale, task, dataset), block in groupby(zip(found, rows, strict=True), key=lambda pair: pair[0].block[:3]):
        pairs = list(block)
        regression = pairs[0][0].runs.regression
        shown.append(
            {
                "title": f"{task} on {dataset}, scale {scale}",
                "measure": "remaining loss (%)" if regression else "test accuracy (%)",
                "logarithmic": regression,
                "devices": sorted({r["device"]["name"] for entry, _ in pairs for r in entry.runs.records.values()}),
                "settings": [
                    {
                        "id": row.id,
                        "name": row.name,
                        "baseline": entry.baseline,
                        "epochs": entry.runs.config.epochs,
                        "flops": entry.runs.flops,
                        "runs": list(_runs(entry)),
                    }
                    for entry, row in pairs
                ],
            }
        )
    return shown


def _runs(entry: Entry) -> Iterator[dict[str, Any]]:
    for seed, record in sorted(entry.runs.records.items()):
        if record["status"] != "failed":
            points = losses(record) if entry.runs.regression else accuracies(record)
            kept = points[:: -(-len(points) // MOST) or 1]
            kept += points[-1:] if kept and kept[-1] != points[-1] else []
            rounded = [(epoch, float(f"{value:.4g}")) for epoch, value in kept]
            yield {"seed": seed, "seconds": round(record["seconds"], 2), "points": rounded}
