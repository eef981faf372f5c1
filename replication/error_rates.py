"""How often a verdict would be wrong, by simulation, for n seeds and the spread of the records.

The spread of an experiment is the standard deviation of the paired differences from backpropagation, pooled over its
settings of other rules near backpropagation on the same data and network. A setting that several experiments share
counts in the first; one on groups of classes is averaged over them, as where it is judged. n differences are drawn:
normal, or resampled with replacement from the residuals of the records (difference minus the mean of its setting,
divided by its experiment's spread, all experiments together), which shows the effect of skew and tails. The draws that
get "matches" or "below" are counted; for normal differences the noncentral t distribution gives the exact rates.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from bench.models import MODELS
from bench.stats import LEVEL, MARGIN, Verdict, half_width, power_matches
from bench.sweeps.experiments import names
from replication.claims.base import FAILING
from replication.results import Results, averaged, largest
from replication.tables import pipe_table

SEEDS = (5, 10)
DRAWS = 100_000
RATES = {
    "false matches": (-MARGIN, Verdict.MATCHES),
    "false below": (-MARGIN, Verdict.BELOW),
    "power of matches": (0.0, Verdict.MATCHES),
    "power of below": (-2 * MARGIN, Verdict.BELOW),
}
"""A verdict, and the true difference in percentage points at which it is counted."""


def on_accuracy() -> list[Results]:
    """The records of accuracies: each experiment at the largest scale that has all the runs that claims read."""
    found = [results for name in names() if (results := largest(name))]
    return [results for results in found if not MODELS.get(results.experiment.model).regression]


def error_rates(found: Iterable[Results]) -> pd.DataFrame:
    """A row for each of `found` with settings near bp, each n of `SEEDS` and each of `RATES`; empty if none is near.

    Columns: experiment, scale, settings (that are near), spread (points), n, rate (which), true_difference (points),
    exact, normal and resampled (shares), error (the larger of the Monte Carlo standard errors of the last two).
    """
    counted: set[str] = set()
    near = [(results, off) for results in found if len(off := residuals(results, counted))]
    if not near:
        return pd.DataFrame()
    spreads = [float(np.sqrt(np.mean(np.concatenate(off) ** 2))) for _, off in near]
    shape = np.concatenate([np.concatenate(off) / spread for (_, off), spread in zip(near, spreads, strict=True)])
    rows = []
    for n in SEEDS:
        generator = np.random.default_rng(n)
        draws = {"normal": generator.standard_normal((DRAWS, n)), "resampled": generator.choice(shape, (DRAWS, n))}
        for (results, off), spread in zip(near, spreads, strict=True):
            for name, (difference, verdict) in RATES.items():
                shares = {kind: rate(difference + spread * drawn, verdict) for kind, drawn in draws.items()}
                rows.append(
                    {"experiment": results.experiment.name, "scale": results.scale, "settings": len(off)}
                    | {"spread": spread, "n": n, "rate": name, "true_difference": difference}
                    | {"exact": power_matches(spread, n, abs(difference + MARGIN)), **shares}
                    | {"error": max(np.sqrt(share * (1 - share) / DRAWS) for share in shares.values())}
                )
    return pd.DataFrame(rows)


def residuals(results: Results, counted: set[str]) -> list[np.ndarray]:
    """Differences from bp minus their mean, for each setting whose mean is within `FAILING` points of bp.

    They are scaled so that their mean square is the pooled variance. Settings in `counted`, by digest, are left out;
    the others are added to it.
    """
    rules = [pool for pool in results.pools if pool.config.rule != "bp" and pool.config.digest not in counted]
    counted.update(pool.config.digest for pool in rules)
    pairs = [(pool.accuracy, averaged([results.baseline_of(cell) for cell in pool.cells])) for pool in rules]
    differences = [np.array([rule[seed] - bp[seed] for seed in sorted(rule.keys() & bp.keys())]) for rule, bp in pairs]
    near = [setting for setting in differences if len(setting) > 1 and abs(setting.mean()) <= FAILING]
    n = sum(map(len, near))
    return [(setting - setting.mean()) * np.sqrt(n / (n - len(near))) for setting in near]


def rate(differences: np.ndarray, verdict: Verdict) -> float:
    """The share of rows of `differences` (draws, n) that get `verdict`, "matches" or "below"."""
    n = differences.shape[1]
    mean = differences.mean(1)
    half = half_width(differences.std(1, ddof=1), n)
    hits = mean - half > -MARGIN if verdict is Verdict.MATCHES else mean + half < -MARGIN
    return float(hits.mean())


def section(rates: pd.DataFrame) -> str:
    """The section of the report in Markdown, a row per experiment at the fewest seeds; empty without rates."""
    if rates.empty:
        return ""
    few = rates[rates["n"] == SEEDS[0]]
    percent = few.assign(
        cell=[f"{100 * r.exact:.1f} ({100 * r.resampled:.1f})" for r in few.itertuples()],
        column=few["rate"] + few["true_difference"].map(" at {:g}".format),
        experiment=few["experiment"] + " (" + few["scale"] + ")",
        spread=few["spread"].map("{:.2f}".format),
    )
    index = ["experiment", "settings", "spread"]
    table = percent.pivot(index=index, columns="column", values="cell")[list(dict.fromkeys(percent["column"]))]
    return f"""\
## How sure the verdicts are

How often {SEEDS[0]} seeds give a wrong "matches" or "below" if the true difference from `bp` is {-MARGIN:g} point
(nominally {50 * (1 - LEVEL):.1f}% each), and how often they give the right one a point away from that: in percent, for
normal differences (in brackets: for the records' own differences, resampled). The spread, in points, is that of the
paired differences from `bp` over the settings within {FAILING:g} points of it. `results/error_rates.csv` also has
{SEEDS[1]} seeds.

These are the rates of one condition. A claim with several is supported only if all hold, so it is supported by chance
no more often. It is not supported if any one is not, which k conditions make up to k times as likely. Intervals and
limits are not corrected for the number of conditions or claims.

{pipe_table(table.reset_index().rename(columns={"spread": "spread (points)"}))}"""
