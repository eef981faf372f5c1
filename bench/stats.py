"""What "matches" means: paired intervals, non-inferiority to a baseline, and its power.

Accuracies and their differences are in percentage points. A diverged or failed run counts as chance accuracy; values
that are not finite raise `UsageError`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isfinite, nan, sqrt

import numpy as np
from scipy import stats

from bench.errors import UsageError

MARGIN = 1.0
LEVEL = 0.95
MIN_SEEDS = 5


class Verdict(StrEnum):
    """The result of comparing a rule with its baseline."""

    MATCHES = "matches"
    BELOW = "below"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW = "too few seeds"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Interval:
    """The mean of n values and its confidence bounds, which are infinite for fewer than two values. The mean of no
    values is NaN.
    """

    estimate: float
    low: float
    high: float
    n: int


MANY_SEEDS = 50
"""More seeds than that are not worth asking for: the difference is too close to the limit."""


@dataclass(frozen=True)
class Comparison:
    """A rule minus its baseline over n shared seeds: the verdict by the t interval, and supporting numbers.

    `power` is the power of "matches" at this spread and count if the rule were as good as its baseline. `seeds_needed`
    is None if the verdict is settled, or if no reasonable number of seeds would settle it.
    """

    verdict: Verdict
    interval: Interval
    bootstrap: Interval
    iqm: float
    power: float
    seeds_needed: int | None
    margin: float


def mean_interval(values: Iterable[float]) -> Interval:
    """Student's 95% t interval of the mean: mean ± t(n - 1) s / sqrt(n), with s the sample standard deviation."""
    sample = _finite(values)
    n = len(sample)
    if n < 2:
        return Interval(float(sample[0]) if n else nan, -inf, inf, n)
    mean, half = float(sample.mean()), float(half_width(sample.std(ddof=1), n))
    return Interval(mean, mean - half, mean + half, n)


def t_quantile(freedom: float | np.ndarray) -> float | np.ndarray:
    """The quantile of Student's t that bounds a two-sided 95% interval, for these degrees of freedom."""
    return stats.t.isf((1 - LEVEL) / 2, freedom)


def half_width(sd: float | np.ndarray, n: int | np.ndarray) -> float | np.ndarray:
    """Half the width of the 95% t interval of the mean of n values with sample standard deviation `sd`."""
    return t_quantile(n - 1) * sd / np.sqrt(n)


def bootstrap_interval(values: Iterable[float]) -> Interval:
    """The 95% percentile bootstrap of the mean. At n = 5 its coverage is about 84%: show it, never decide by it."""
    sample = _finite(values)
    if len(sample) < 2:
        return mean_interval(sample)
    low, high = stats.bootstrap(
        (sample,), np.mean, n_resamples=10_000, confidence_level=LEVEL, method="percentile", rng=0
    ).confidence_interval
    return Interval(float(sample.mean()), float(low), float(high), len(sample))


def interquartile_mean(values: Iterable[float]) -> float:
    """The mean of the middle half, with exactly n / 4 of the values' weight cut from each end; NaN without values.

    If n is not a multiple of 4, the values at the cuts count in part; SciPy's `trim_mean` counts them in full.
    """
    sample = np.sort(_finite(values))
    n = len(sample)
    edges = np.clip(np.arange(n + 1), n / 4, 3 * n / 4)
    return float(np.average(sample, weights=np.diff(edges))) if n else nan


def number(interval: Interval, form: str = ".2f") -> str:
    """A mean with its interval: `55.31 [54.90, 55.72]`; empty without values."""
    if not interval.n:
        return ""
    bounds = f" [{interval.low:{form}}, {interval.high:{form}}]" if isfinite(interval.low) else ""
    return f"{interval.estimate:{form}}{bounds}"


def compare(rule: Mapping[int, float], baseline: Mapping[int, float], margin: float = MARGIN) -> Comparison:
    """Judges a rule by the side of -margin on which the whole 95% interval of rule - baseline lies.

    Uses the seeds (keys) that both have: fewer than `MIN_SEEDS` are too few, and none means not run.
    """
    differences = _finite(rule[seed] - baseline[seed] for seed in sorted(rule.keys() & baseline.keys()))
    n = len(differences)
    interval = mean_interval(differences)
    sd = float(differences.std(ddof=1)) if n > 1 else nan
    if n == 0:
        verdict = Verdict.NOT_RUN
    elif n < MIN_SEEDS:
        verdict = Verdict.TOO_FEW
    elif interval.low > -margin:
        verdict = Verdict.MATCHES
    elif interval.high < -margin:
        verdict = Verdict.BELOW
    else:
        verdict = Verdict.INCONCLUSIVE
    unsettled = verdict in (Verdict.INCONCLUSIVE, Verdict.TOO_FEW)
    return Comparison(
        verdict=verdict,
        interval=interval,
        bootstrap=bootstrap_interval(differences),
        iqm=interquartile_mean(differences),
        power=power_matches(sd, n, margin),
        seeds_needed=seeds_for(sd, interval.estimate, margin) if unsettled else None,
        margin=margin,
    )


def power_matches(sd: float, n: int, margin: float = MARGIN) -> float:
    """The probability that n differences N(0, sd²), those of a rule as good as its baseline, give "matches".

    Exact: the statistic (mean + margin) sqrt(n) / s is noncentral t with n - 1 degrees of freedom and noncentrality
    margin sqrt(n) / sd.
    """
    if n < MIN_SEEDS:
        return 0.0
    if sd == 0:
        return float(margin > 0)
    return float(stats.nct.sf(t_quantile(n - 1), n - 1, margin * sqrt(n) / sd))


def seeds_for(sd: float, difference: float, margin: float = MARGIN) -> int | None:
    """The smallest number of seeds, at least `MIN_SEEDS`, whose t interval at this spread and mean excludes -margin.

    This projects the observed values and is not a power: fresh seeds with the same mean resolve about half the time.
    None if `MANY_SEEDS` are too few.
    """
    n = np.arange(MIN_SEEDS, MANY_SEEDS + 1)
    enough = n[half_width(sd, n) < abs(difference + margin)]
    return int(enough[0]) if enough.size else None


def _finite(values: Iterable[float]) -> np.ndarray:
    sample = np.fromiter(values, dtype=float)
    if not np.isfinite(sample).all():
        raise UsageError(f"values: {sample.tolist()} are not all finite; a diverged run counts as chance accuracy")
    return sample
