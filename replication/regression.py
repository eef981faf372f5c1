"""Every rule on every network at scale quick, retrained and compared with `results/quick/reference.csv`.

Two numbers per setting are compared, as means over its seeds: test accuracy, and the logarithm of the training loss in
the last entry of the history, which distinguishes rules whose accuracies saturate. The tolerance of each is the 99.9%
prediction half-width of the mean of n new seeds, t s sqrt(2 / n), and at least the resolution of the number. s is the
moderated standard deviation of Smyth (2004, Statistical Applications in Genetics and Molecular Biology 3:3), as seeds
are few: the variance over seeds is shrunk towards that of the network's settings, more strongly the more similar they
are. Since both sides use the same seeds, they differ only by rounding; changes of a rule within the tolerance are left
to the golden trajectories.
"""

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy import optimize, special, stats

from bench.commands.plans import Place
from bench.commands.sweep import sweep
from bench.data import sizes
from bench.errors import UsageError, run_command
from bench.models import MODELS
from bench.records.store import Record
from bench.rules import RULES
from bench.sweeps.experiments import Experiment, Grid
from replication.results import FOLDER, Cell, results_of

SCALE = "quick"
REFERENCE = FOLDER / SCALE / "reference.csv"
LEVEL = 0.999
LOSS_RESOLUTION = 0.01
KEY = ["network", "setting", "measure"]

SEEDS = {"mlp": 5, "cnn": 4, "linear": 4, "vit": 3, "retina": 3}
RANKS = {"mlp": "10", "cnn": "1/4", "linear": "8", "vit": "8", "retina": "1/2"}
SETTINGS: dict[str, dict[str, Any]] = {"linear": {"epochs": 400, "lr": 7.5e-4}}
"""Fields of `Config` that override scale quick: `linear` stops while rules still differ, at a rate stable for all."""


def grid(model: str) -> Experiment:
    """An experiment of every built-in rule that supports `model`, and both sources of `ldfa-direct`."""
    rules = {rule: RULES.get(rule) for rule in RULES.built_in()}
    rules = {rule: kind for rule, kind in rules.items() if kind().serves(MODELS.get(model).regression)}
    runs: list[dict[str, Any]] = [
        {"rule": rule, **({"rank": RANKS[model]} if kind.ranked else {})} for rule, kind in rules.items()
    ]
    runs += [run | {"rule_options": {"source": "hidden"}} for run in runs if run["rule"] == "ldfa-direct"]
    runs = [run | SETTINGS.get(model, {}) for run in runs]
    scales = {SCALE: Grid(SEEDS[model], runs=runs)}
    return Experiment(f"every rule on {model}", model, scales, name=f"regression-{model}")


def measured(folder: Path) -> pd.DataFrame:
    """Mean, standard deviation over n seeds and tolerance of both numbers of every setting, recorded in `folder`.

    Raises `UsageError` if a run is missing.
    """
    cells = [cell for model in MODELS.built_in() for cell in results_of(grid(model), SCALE, folder).cells]
    for cell in cells:
        if lacking := cell.planned - len(cell.records):
            setting = f"{cell.config.model}, {cell.label!r}"
            raise UsageError(f"--results {folder}: {lacking} of {cell.planned} runs of {setting} are missing")
    found = pd.DataFrame([row for cell in cells for row in rows(cell)])
    groups = found.groupby(["network", "measure"], sort=False)
    return found.assign(tolerance=pd.concat([tolerance(group) for _, group in groups]))


def rows(cell: Cell) -> list[dict[str, Any]]:
    """The compared numbers of a setting, one row each. The loss of a diverged run is NaN, which is off."""
    measures = {"log training loss": (cell.values(log_training_loss, math.nan), LOSS_RESOLUTION)}
    if not MODELS.get(cell.config.model).regression:
        test_images = sizes(cell.config.dataset).test
        measures = {"accuracy (%)": (cell.accuracy, 100 / test_images)} | measures
    numbers = {measure: (np.array(list(by_seed.values())), fine) for measure, (by_seed, fine) in measures.items()}
    return [
        dict(zip(KEY, (cell.config.model, cell.label, measure), strict=True))
        | {"mean": values.mean(), "sd": values.std(ddof=1), "n": len(values), "resolution": resolution}
        for measure, (values, resolution) in numbers.items()
    ]


def log_training_loss(record: Record) -> float:
    """Natural logarithm of the mean training loss in the last entry of the history."""
    return math.log(record["history"][-1]["loss"])


def compare(found: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Both side by side, with `verdict`: ok, off (beyond the tolerance), new or gone (in only one of them)."""
    both = reference.merge(found[[*KEY, "mean"]], on=KEY, how="outer", suffixes=("", "_found"), indicator=True)
    where = both.pop("_merge").map({"both": "off", "left_only": "gone", "right_only": "new"}).astype(str)
    both["verdict"] = where.mask((both["mean_found"] - both["mean"]).abs() <= both["tolerance"], "ok")
    return both


def updated(found: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """The numbers found, but those of the reference where they are within its tolerance."""
    compared = compare(found, reference)
    kept = compared.loc[compared["verdict"] == "ok", KEY].merge(reference, on=KEY)
    both = pd.concat([kept, found]).drop_duplicates(KEY).set_index(KEY)
    return both.loc[pd.MultiIndex.from_frame(found[KEY])].reset_index()


def tolerance(group: pd.DataFrame) -> pd.Series:
    """How far another mean of as many runs may differ from the mean of each row of one network and one measure.

    A variance is taken to be at least that of rounding to the resolution.
    """
    freedom = group["n"] - 1
    variance = np.maximum(group["sd"] ** 2, group["resolution"] ** 2 / 12)
    prior_freedom, prior = variance_prior(variance, freedom)
    if math.isinf(prior_freedom):
        moderated = pd.Series(prior, group.index)
    else:
        moderated = (prior_freedom * prior + freedom * variance) / (prior_freedom + freedom)
    half_width = stats.t.isf((1 - LEVEL) / 2, prior_freedom + freedom) * np.sqrt(2 * moderated / group["n"])
    return half_width.clip(lower=group["resolution"])


def variance_prior(variance: pd.Series, freedom: pd.Series) -> tuple[float, float]:
    """Degrees of freedom (0 for one setting, infinite for equal ones) and variance towards which each is shrunk.

    Smyth's moments of the log variances: s² is v F with F of (freedom, degrees of freedom of v).
    """
    logs = np.log(variance) - special.digamma(freedom / 2) + np.log(freedom / 2)
    if len(logs) < 2:
        return 0.0, float(variance.iloc[0])
    excess = logs.var() - special.polygamma(1, freedom / 2).mean()
    if excess <= special.polygamma(1, 1e6):
        return math.inf, float(np.exp(logs.mean()))
    half = optimize.brentq(lambda half: special.polygamma(1, half) - excess, 1e-6, 1e6)
    return 2 * half, float(np.exp(logs.mean() + special.digamma(half) - np.log(half)))


def command(
    folder: Annotated[Path, typer.Option("--results", help="Folder for the records; existing ones are kept.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Parallel processes. Default: one per core.")] = None,
    write: Annotated[bool, typer.Option("--write", help=f"Save new and changed numbers in {REFERENCE}.")] = False,
) -> None:
    """Train every rule on every network and compare with the committed reference; exit 1 if a number is off."""
    if not write and not REFERENCE.exists():
        raise UsageError(f"{REFERENCE}: no such file; make it with --write")
    grids = [grid(model) for model in MODELS.built_in()]
    sweep(grids, SCALE, results=folder, place=Place("cpu", workers), population=1)
    found = measured(folder)
    if write:
        found = updated(found, pd.read_csv(REFERENCE)) if REFERENCE.exists() else found
        found.to_csv(REFERENCE, index=False, float_format="%.4f")
        print(f"wrote {REFERENCE}: {len(found)} numbers")
        return
    compared = compare(found, pd.read_csv(REFERENCE))
    print(compared.to_string(index=False, float_format="{:.3f}".format))
    bad = (compared["verdict"] != "ok").sum()
    print(f"{len(compared) - bad} of {len(compared)} numbers within the tolerance")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    run_command(app)
