"""The verdicts' numbers and the learning curves as `dvc metrics` and `dvc plots` read them."""

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from bench.files import write_text
from bench.models import MODELS
from bench.sweeps.experiments import experiment
from replication.curves import accuracies, losses
from replication.findings import Finding
from replication.results import FOLDER, LARGEST_FIRST, Cell, Results, largest, results
from replication.tables import csv
from replication.verdicts import ClaimVerdict

CURVES = ("linear", "mlp-all-layers", "cnn-rank", "vit-rank")
"""The experiments whose curves are written, which dvc.yaml plots."""


def write(findings: Sequence[Finding], folder: Path = FOLDER) -> None:
    """Writes `folder`/metrics.json, one entry per claim, and `folder`/curves/EXPERIMENT.csv, one column per setting."""
    numbers = {finding.name.upper(): metrics(finding) for finding in findings}
    write_text(folder / "metrics.json", json.dumps(numbers, indent=2) + "\n")
    for name in CURVES:
        write_text(folder / "curves" / f"{name}.csv", csv(curves(largest(name, folder) or _unrecorded(name, folder))))


def metrics(finding: Finding) -> dict[str, Any]:
    """The verdict on a claim, and the estimate of each of its conditions that has one."""
    parts = finding.judgement.parts
    return {
        "verdict": finding.verdict,
        "level": finding.level,
        "seeds": finding.judgement.n,
        "conditions": len(parts),
        "conditions that hold": sum(part.verdict is ClaimVerdict.HOLDS for part in parts),
        "estimates": {part.condition: float(f"{part.estimate:.4g}") for part in parts if isfinite(part.estimate)},
    }


def curves(found: Results) -> pd.DataFrame:
    """Mean test accuracy over seeds, or remaining loss, in percent: one row per epoch, one column per setting.

    A setting without records has an empty column.
    """
    columns = {_column(cell, found): _mean(cell) for cell in found.cells}
    table = pd.DataFrame(columns, dtype=float).rename_axis("epoch").sort_index()
    return table.dropna(how="all").reset_index()


def _column(cell: Cell, found: Results) -> str:
    several = len({each.config.dataset for each in found.cells}) > 1
    return f"{cell.label} on {cell.config.dataset}" if several else cell.label


def _mean(cell: Cell) -> pd.Series:
    points = losses if MODELS.get(cell.config.model).regression else accuracies
    found = [point for record in cell.records.values() for point in points(record)]
    return pd.DataFrame(found, columns=["epoch", "value"]).groupby("epoch")["value"].mean()


def _unrecorded(name: str, folder: Path) -> Results:
    """The settings of an experiment at its largest scale."""
    scale = next(scale for scale in LARGEST_FIRST if scale in experiment(name).scales)
    return results(name, scale, folder)
