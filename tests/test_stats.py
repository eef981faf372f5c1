"""The statistics behind every verdict, against SciPy, hand values and simulation."""

from math import inf, isnan, nan

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.errors import UsageError
from bench.stats import (
    Interval,
    Verdict,
    bootstrap_interval,
    compare,
    interquartile_mean,
    mean_interval,
    power_matches,
    seeds_for,
)
from replication.verdicts import ClaimVerdict, all_of

BP = {seed: 60.0 + seed for seed in range(5)}
NOISE = np.array([-2, -1, 0, 1, 2]) / 4


def shifted(by, noise=NOISE):
    """Accuracies whose differences from BP have mean `by` and the spread of `noise`."""
    return {seed: BP[seed] + by + noise[seed] for seed in BP}


def test_mean_interval_is_scipys_t_interval():
    values = [61.2, 59.8, 60.5, 62.0, 60.1]
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert (interval.estimate, interval.n) == (pytest.approx(60.72), 5)


@pytest.mark.parametrize("interval_of", [mean_interval, bootstrap_interval])
def test_too_few_values_bound_nothing(interval_of):
    assert interval_of([3.0]) == Interval(3.0, -inf, inf, 1)
    nothing = interval_of([])
    assert isnan(nothing.estimate) and (nothing.low, nothing.high, nothing.n) == (-inf, inf, 0)


@pytest.mark.parametrize("statistic", [mean_interval, bootstrap_interval, interquartile_mean])
@pytest.mark.parametrize("bad", [nan, inf])
def test_values_that_are_not_finite_are_refused(statistic, bad):
    with pytest.raises(UsageError, match="chance accuracy"):
        statistic([60.0, bad])


def test_pairing_is_by_seed():
    rule, baseline = {3: 58.0, 1: 60.0, 2: 57.0, 9: 0.0}, {1: 61.0, 2: 60.0, 3: 60.0, 7: 99.0}
    assert compare(rule, baseline).interval == mean_interval([-1.0, -3.0, -2.0])
    assert compare(BP, BP).interval == Interval(0.0, 0.0, 0.0, 5)


def test_order_of_seeds_changes_no_digit():
    rule, baseline = (dict(enumerate(column)) for column in np.random.default_rng(0).normal(60, 1, size=(2, 20)))
    assert compare(dict(reversed(rule.items())), baseline) == compare(rule, baseline)


def test_bootstrap_is_the_seeded_percentile_of_resampled_means():
    values = np.random.default_rng(1).exponential(size=15)  # skewed, so that BCa and basic bootstraps differ
    interval = bootstrap_interval(values)
    means = np.random.default_rng(2).choice(values, (100_000, 15)).mean(1)
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)
    assert interval.estimate == pytest.approx(values.mean())
    assert bootstrap_interval(values) == interval


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], 7),
        ([1, 3], 2),
        ([100, 1, 2, 5, -50], (0.75 * 1 + 2 + 0.75 * 5) / 2.5),
        ([1, 2, 4, 8, 16, 900], (0.5 * 2 + 4 + 8 + 0.5 * 16) / 3),
    ],
)
def test_interquartile_mean_by_hand(values, expected):
    assert interquartile_mean(values) == pytest.approx(expected)


def test_interquartile_mean_is_trim_mean_at_multiples_of_four():
    values = np.random.default_rng(0).normal(size=12)
    assert interquartile_mean(values) == pytest.approx(scipy_stats.trim_mean(values, 0.25))


@pytest.mark.parametrize(
    ("by", "verdict"),
    [
        (-0.45, Verdict.MATCHES),  # 95% half width of NOISE at n = 5: 0.491
        (-0.55, Verdict.INCONCLUSIVE),
        (-1.45, Verdict.INCONCLUSIVE),
        (-1.55, Verdict.BELOW),
    ],
)
def test_verdict_needs_the_whole_interval_on_one_side(by, verdict):
    result = compare(shifted(by), BP)
    assert result.verdict is verdict
    assert (result.interval.estimate, result.bootstrap.estimate, result.iqm) == pytest.approx((by, by, by))
    assert result.power == power_matches(NOISE.std(ddof=1), 5)
    assert (result.seeds_needed is None) == (verdict is not Verdict.INCONCLUSIVE)


def test_few_seeds_are_too_few_and_none_is_not_run():
    four = {seed: shifted(0.0)[seed] for seed in range(4)}
    few = compare(four, BP)
    assert (few.verdict, few.interval.n, few.seeds_needed) == (Verdict.TOO_FEW, 4, 5)
    one = compare({0: 60.0}, BP)
    assert (one.verdict, one.interval.n, one.seeds_needed) == (Verdict.TOO_FEW, 1, None)
    assert compare({}, BP).verdict is compare({8: 60.0}, BP).verdict is Verdict.NOT_RUN


def test_seeds_needed_is_the_first_count_that_resolves():
    needed = compare(shifted(-0.8), BP).seeds_needed
    sd = NOISE.std(ddof=1)

    def low(n):
        return -0.8 - scipy_stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n)

    assert low(needed) > -1 >= low(needed - 1)
    assert seeds_for(sd, -1.2) == seeds_for(sd, -0.8) == needed
    assert seeds_for(sd, -1.0) is seeds_for(sd, -1.01) is None


@pytest.mark.parametrize(("sd", "n", "margin"), [(0.5, 5, 1.0), (1.0, 5, 1.0), (1.0, 10, 0.5), (0.7, 5, 0.0)])
def test_power_is_the_simulated_rate_of_matches(sd, n, margin):
    runs = np.random.default_rng(0).normal(0, sd, (200_000, n))
    half = scipy_stats.t.ppf(0.975, n - 1) * runs.std(1, ddof=1) / np.sqrt(n)
    rate = np.mean(runs.mean(1) - half > -margin)
    assert power_matches(sd, n, margin) == pytest.approx(rate, abs=0.005)


@pytest.mark.parametrize("n", [5, 50])
def test_a_rule_at_the_margin_matches_once_in_forty(n):
    assert power_matches(0.8, n, margin=0.0) == pytest.approx(0.025, rel=1e-6)


def test_power_at_its_limits():
    assert power_matches(0.0, 5) == power_matches(1e-3, 5) == 1
    assert power_matches(0.0, 5, margin=0.0) == power_matches(0.5, 4) == power_matches(nan, 1) == 0


def test_intervals_cover_as_stated_at_five_seeds():
    samples = np.random.default_rng(0).normal(size=(400, 5))
    t = [mean_interval(sample) for sample in samples]
    percentile = [bootstrap_interval(sample) for sample in samples]
    assert np.mean([i.low < 0 < i.high for i in t]) == pytest.approx(0.95, abs=0.03)
    assert np.mean([i.low < 0 < i.high for i in percentile]) == pytest.approx(0.84, abs=0.04)


YES, NO, OPEN, FEW, NOT_RUN = ClaimVerdict


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([YES, YES], YES),
        ([YES, OPEN], OPEN),
        ([YES, OPEN, NO], NO),
        ([YES, NOT_RUN], NOT_RUN),
        ([NO, NOT_RUN], NOT_RUN),
        ([NO, FEW], FEW),
        ([FEW, NOT_RUN], NOT_RUN),
        ([FEW, FEW], FEW),
        ([NOT_RUN, NOT_RUN], NOT_RUN),
        ([], NOT_RUN),
    ],
)
def test_a_claim_is_all_of_its_parts(parts, whole):
    assert all_of(parts) is whole
