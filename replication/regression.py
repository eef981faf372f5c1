"""Compares a fresh training of the quick grid with `results/quick/reference.csv`, within the spread of its seeds.

The tolerance of a setting is the 99.9% prediction half-width of another mean of n runs, t(n - 1) s sqrt(2 / n) with s
the sample standard deviation over seeds, and no less than its resolution: one test example, or 0.01 points of loss.
Where a setting has fewer than 5 seeds, s and its degrees of freedom are pooled over its experiment. Since the seeds are
the same on both sides, only rounding sets them apart: the golden trajectories are the finer check.
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import stats

from bench.data import sizes
from bench.errors import UsageError, run_command
from bench.experiments import experiment, names
from bench.models import MODELS
from replication.results import FOLDER, Cell, results
from replication.stats import MIN_SEEDS
from replication.tables import remaining_loss

SCALE = "quick"
REFERENCE = FOLDER / SCALE / "reference.csv"
LEVEL = 0.999
LOSS_RESOLUTION = 0.01
KEY = ["experiment", "setting", "dataset", "measure"]


def measured(folder: Path) -> pd.DataFrame:
    """Mean, standard deviation over n seeds and tolerance of every setting of the quick grid recorded in `folder`.

    Raises `UsageError` where a run is missing.
    """
    rows = []
    for name in names():
        if SCALE in experiment(name).scales:
            rows += [_row(name, cell, folder) for cell in results(name, SCALE, folder).cells]
    found = pd.DataFrame(rows)
    return found.assign(tolerance=tolerance(found))


def compare(found: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Both side by side, with `verdict`: ok, off (beyond the tolerance), new or gone (in one of them only)."""
    both = reference.merge(found[[*KEY, "mean"]], on=KEY, how="outer", suffixes=("", "_found"), indicator=True)
    where = both.pop("_merge").map({"both": "off", "left_only": "gone", "right_only": "new"}).astype(str)
    both["verdict"] = where.mask((both["mean_found"] - both["mean"]).abs() <= both["tolerance"], "ok")
    return both


def tolerance(found: pd.DataFrame) -> pd.Series:
    """How far another mean of as many runs may lie from the mean of each row."""
    freedom, squares = found["n"] - 1, (found["n"] - 1) * found["sd"] ** 2
    few = found["n"] < MIN_SEEDS
    by_experiment = found["experiment"]
    squares = squares.mask(few, squares.groupby(by_experiment).transform("sum"))
    freedom = freedom.mask(few, freedom.groupby(by_experiment).transform("sum"))
    half_width = stats.t.isf((1 - LEVEL) / 2, freedom) * np.sqrt(squares / freedom * 2 / found["n"])
    return half_width.clip(lower=found["resolution"])


def _row(name: str, cell: Cell, folder: Path) -> dict:
    if len(cell.records) < cell.planned:
        missing = f"{cell.planned - len(cell.records)} of {cell.planned} runs of {cell.label!r} are missing"
        raise UsageError(f"--results {folder}: {missing}; run `bench sweep {name} --scale {SCALE} --results {folder}`")
    if MODELS.get(cell.config.model).regression:
        measure, by_seed, resolution = "remaining loss (%)", cell.values(remaining_loss, 100.0), LOSS_RESOLUTION
    else:
        measure, by_seed = "accuracy (%)", cell.accuracy
        resolution = 100 / sizes(cell.config.dataset).test
    values = np.array(list(by_seed.values()))
    key = dict(zip(KEY, (name, cell.label, cell.config.dataset, measure), strict=True))
    return key | {"mean": values.mean(), "sd": values.std(ddof=1), "n": len(values), "resolution": resolution}


def command(
    folder: Annotated[Path, typer.Option("--results", help="Results folder with the records of the quick grid.")],
    write: Annotated[bool, typer.Option(help=f"Make them the reference, {REFERENCE}.")] = False,
) -> None:
    """Compare the quick grid's accuracies with the committed reference; exit 1 where one is off."""
    found = measured(folder)
    if write:
        found.to_csv(REFERENCE, index=False, float_format="%.4f")
        print(f"wrote {REFERENCE}: {len(found)} settings")
        return
    if not REFERENCE.exists():
        raise UsageError(f"{REFERENCE}: no such file; make it with --write")
    compared = compare(found, pd.read_csv(REFERENCE))
    print(compared.to_string(index=False, float_format="{:.2f}".format))
    bad = (compared["verdict"] != "ok").sum()
    print(f"{len(compared) - bad} of {len(compared)} settings within the tolerance")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    run_command(app)
