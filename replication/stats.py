"""What "matches" means: paired intervals, non-inferiority to a baseline, its power, and the verdict on a claim.

Accuracies and their differences are in percentage points. A diverged or failed run enters as chance accuracy; a value
that is not finite is a `UsageError`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf, nan, sqrt

import numpy as np
from scipy import stats

from bench.errors import UsageError

MARGIN = 1.0
LEVEL = 0.95
MIN_SEEDS = 5


class Verdict(StrEnum):
    """A rule against its baseline."""

    MATCHES = "matches"
    BELOW = "below"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


class ClaimVerdict(StrEnum):
    """A claim against its records."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Interval:
    """The mean of n values and its confidence bounds: infinite below two values; the mean of none is NaN."""

    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """A rule minus its baseline over n shared seeds: the verdict by the t interval, and the numbers beside it.

    `seeds_needed` is None where the verdict is settled or more seeds, within reason, would not settle it.
    """

    verdict: Verdict
    interval: Interval
    bootstrap: Interval
    iqm: float
    n: int
    seeds_needed: int | None
    margin: float


def mean_interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """Student's t interval of the mean: mean ± t(n - 1) s / sqrt(n), with s the sample standard deviation."""
    sample = _finite(values)
    n = len(sample)
    if n < 2:
        return Interval(float(sample[0]) if n else nan, -inf, inf, n)
    mean, half = float(sample.mean()), float(_half_width(sample.std(ddof=1), n, level))
    return Interval(mean, mean - half, mean + half, n)


def paired_interval(rule: Mapping[int, float], baseline: Mapping[int, float], level: float = LEVEL) -> Interval:
    """The t interval of rule - baseline over the seeds (keys) that both have."""
    return mean_interval(_differences(rule, baseline), level)


def bootstrap_interval(
    values: Iterable[float], level: float = LEVEL, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The percentile bootstrap of the mean. At n = 5 a nominal 95% covers some 84%: show it, decide nothing by it."""
    sample = _finite(values)
    if len(sample) < 2:
        return mean_interval(sample)
    low, high = stats.bootstrap(
        (sample,), np.mean, n_resamples=resamples, confidence_level=level, method="percentile", rng=seed
    ).confidence_interval
    return Interval(float(sample.mean()), float(low), float(high), len(sample))


def interquartile_mean(values: Iterable[float]) -> float:
    """The mean of the middle half, exactly n / 4 of the values' weight cut from each end; NaN without values.

    Where n is no multiple of 4 the values at the cuts count in part, which SciPy's `trim_mean` counts in full.
    """
    sample = np.sort(_finite(values))
    n = len(sample)
    edges = np.clip(np.arange(n + 1), n / 4, 3 * n / 4)
    return float(np.average(sample, weights=np.diff(edges))) if n else nan


def compare(
    rule: Mapping[int, float], baseline: Mapping[int, float], margin: float = MARGIN, min_seeds: int = MIN_SEEDS
) -> Comparison:
    """Judge a rule by the side of -margin on which the whole 95% interval of rule - baseline lies.

    Fewer than `min_seeds` shared seeds are inconclusive, none is not run.
    """
    differences = _differences(rule, baseline)
    interval = mean_interval(differences)
    n = interval.n
    needed = None
    if n == 0:
        verdict = Verdict.NOT_RUN
    elif n >= min_seeds and interval.low > -margin:
        verdict = Verdict.MATCHES
    elif n >= min_seeds and interval.high < -margin:
        verdict = Verdict.BELOW
    else:
        verdict = Verdict.INCONCLUSIVE
        needed = seeds_for(differences.std(ddof=1), interval.estimate, margin, smallest=min_seeds) if n > 1 else None
    bootstrap, iqm = bootstrap_interval(differences), interquartile_mean(differences)
    return Comparison(verdict, interval, bootstrap, iqm, n, needed, margin)


def fails(rule: Mapping[int, float], baseline: Mapping[int, float], threshold: float = 5.0) -> bool:
    """Whether the rule fails outright: it is below its baseline by a margin of `threshold` points."""
    return compare(rule, baseline, margin=threshold).verdict is Verdict.BELOW


def power_matches(
    sd: float, n: int, true_difference: float = 0.0, margin: float = MARGIN, level: float = LEVEL
) -> float:
    """The probability that the t interval of n differences N(true_difference, sd²) lies above -margin.

    Exact: the statistic (mean + margin) sqrt(n) / s is noncentral t with n - 1 degrees of freedom and noncentrality
    (true_difference + margin) sqrt(n) / sd. At a true difference of -margin it is the rate of false matches.
    """
    if n < 2:
        return 0.0
    if sd == 0:
        return float(true_difference > -margin)
    noncentrality = (true_difference + margin) * sqrt(n) / sd
    return float(stats.nct.sf(stats.t.isf((1 - level) / 2, n - 1), n - 1, noncentrality))


def seeds_for(
    sd: float, difference: float, margin: float = MARGIN, level: float = LEVEL, smallest: int = 2, largest: int = 1000
) -> int | None:
    """The fewest seeds whose t interval, at this spread and estimated difference, leaves out -margin.

    A projection of what was seen, not a power: fresh seeds of the same mean resolve about half the time. None where
    `largest` seeds are too few.
    """
    n = np.arange(smallest, largest + 1)
    enough = n[_half_width(sd, n, level) < abs(difference + margin)]
    return int(enough[0]) if enough.size else None


def all_of(parts: Iterable[ClaimVerdict]) -> ClaimVerdict:
    """The verdict on a claim from those on its parts: supported only where each is, and inconclusive until all ran."""
    found = set(parts)
    if found <= {ClaimVerdict.NOT_RUN}:
        return ClaimVerdict.NOT_RUN
    if ClaimVerdict.NOT_RUN in found:
        return ClaimVerdict.INCONCLUSIVE
    weaker = (ClaimVerdict.NOT_SUPPORTED, ClaimVerdict.INCONCLUSIVE)
    return next((verdict for verdict in weaker if verdict in found), ClaimVerdict.SUPPORTED)


def _finite(values: Iterable[float]) -> np.ndarray:
    sample = np.fromiter(values, dtype=float)
    if not np.isfinite(sample).all():
        raise UsageError(f"values: {sample.tolist()} are not all finite; a diverged run counts as chance accuracy")
    return sample


def _differences(rule: Mapping[int, float], baseline: Mapping[int, float]) -> np.ndarray:
    return _finite(rule[seed] - baseline[seed] for seed in sorted(rule.keys() & baseline.keys()))


def _half_width(sd: float, n: int | np.ndarray, level: float) -> float | np.ndarray:
    return stats.t.isf((1 - level) / 2, n - 1) * sd / np.sqrt(n)
