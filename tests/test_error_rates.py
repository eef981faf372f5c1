"""The simulated error rates are those of the verdict that `compare` gives."""

from dataclasses import replace

import numpy as np
import pytest

from bench import stats
from bench.stats import Verdict, power_matches
from replication import error_rates
from replication.error_rates import DRAWS, rate, residuals, section
from replication.figures import FIGURES
from replication.results import results
from replication.tables import accuracy_table


def grid(noise, settings=(("ldfa r=10", -1.0), ("fa", -4.0), ("kp", -9.0))):
    """The cpu grid of `mlp-all-layers`, its settings the given points above bp, but for rows of `noise`."""
    base = results("mlp-all-layers", "cpu")
    n = noise.shape[1]
    accuracies = {"bp": 59 + 0.1 * np.arange(n)}
    accuracies |= {label: accuracies["bp"] + by + off for (label, by), off in zip(settings, noise, strict=True)}

    def records(label):
        return {s: {"status": "ok", "final": {"accuracy": a}} for s, a in enumerate(accuracies.get(label, []))}

    return replace(base, cells=tuple(replace(cell, records=records(cell.label)) for cell in base.cells))


NORMAL = grid(np.random.default_rng(0).normal(0, 0.7, (3, 400)))


@pytest.fixture(scope="module")
def rates():
    return error_rates.error_rates([NORMAL])


def test_normal_differences_err_as_often_as_nominal_and_exact(rates):
    assert list(rates["n"].unique()) == [5, 10]
    assert list(rates["spread"].unique()) == pytest.approx([0.7], rel=0.06)
    within = 4 * np.sqrt(rates["exact"] * (1 - rates["exact"]) / DRAWS)
    assert ((rates["normal"] - rates["exact"]).abs() < within).all()
    false = rates[rates["true_difference"] == -1]
    assert len(false) == 4
    assert list(false["exact"]) == pytest.approx([0.025] * 4)
    power = rates[rates["true_difference"] != -1]
    assert list(power["exact"]) == [power_matches(s, n) for s, n in zip(power["spread"], power["n"], strict=True)]


def test_resampled_normal_records_err_like_normal_ones(rates):
    assert list(rates["resampled"]) == pytest.approx(list(rates["normal"]), abs=0.02)


def test_skewed_records_err_more_on_one_side():
    skewed = np.random.default_rng(0).exponential(0.7, (3, 400))
    found = error_rates.error_rates([grid(skewed)]).query("n == 5").set_index("rate")["resampled"]
    assert found["false below"] > 0.05 > 0.02 > found["false matches"]


def test_a_rate_counts_the_verdicts_of_compare(monkeypatch):
    monkeypatch.setattr(stats, "bootstrap_interval", stats.mean_interval)
    draws = np.random.default_rng(0).normal(-0.8, 0.6, (300, 5))
    verdicts = [stats.compare(dict(enumerate(row)), dict.fromkeys(range(5), 0.0)).verdict for row in draws]
    for verdict in (Verdict.MATCHES, Verdict.BELOW):
        assert verdicts.count(verdict) == round(300 * rate(draws, verdict)) > 0


def test_only_settings_near_bp_count_and_give_the_pooled_variance():
    noise = np.array([[-1.0, 0.0, 1.0], [-3.0, 0.0, 3.0], [-50.0, 0.0, 50.0]])
    off = residuals(grid(noise), set())
    assert len(off) == 2
    assert np.mean(np.concatenate(off) ** 2) == pytest.approx((1 + 9) / 2)


def test_a_setting_that_experiments_share_counts_once():
    counted = set()
    assert len(residuals(NORMAL, counted)) == 2 and residuals(NORMAL, counted) == []


def test_a_setting_is_compared_with_bp_on_its_own_network():
    base, noise = results("mlp-all-layers", "paper"), np.array([-0.5, 0.0, 0.5])
    seeds = np.arange(3.0)
    accuracies = {"bp": 60 + seeds, "bp dropout=0.0": 59 - seeds, "ldfa r=10 dropout=0.0": 58 - seeds + noise}

    def records(label):
        return {s: {"status": "ok", "final": {"accuracy": a}} for s, a in enumerate(accuracies.get(label, []))}

    filled = replace(base, cells=tuple(replace(cell, records=records(cell.label)) for cell in base.cells))
    (off,) = residuals(filled, set())
    assert off == pytest.approx(noise * np.sqrt(3 / 2))
    row = accuracy_table(filled).text.set_index("setting").loc["`ldfa r=10 dropout=0.0`"]
    assert row["minus bp (points)"].startswith("-1.00 [")
    assert filled.baseline_of(filled.cell("bp", dropout=0.0)) == filled.baseline
    _, drawn = FIGURES.get("mlp-all-layers")(filled)
    assert drawn.groupby("setting")["minus_bp"].mean()["ldfa r=10 dropout=0.0"] == pytest.approx(-1)


def test_a_setting_is_compared_with_bp_on_its_own_data_and_groups_of_classes_are_averaged():
    """Ten more points on each further group of classes, for both rules; the rule one point below, two seeds apart."""
    base = results("mlp-classes", "cpu")

    def records(cell):
        dataset, _, group = cell.config.dataset.partition("@")
        if dataset != "cifar100:10" or cell.label not in ("bp width=256", "ldfa r=10 width=256"):
            return {}
        level = 50 + 10 * int(group or 0)
        below = 0 if cell.config.rule == "bp" else 1
        return {s: {"status": "ok", "final": {"accuracy": level - below + s * below}} for s in (0, 1)}

    grid = replace(base, cells=tuple(replace(cell, records=records(cell)) for cell in base.cells))
    rules = [cell for cell in grid.cells if cell.records and cell.config.rule != "bp"]
    assert len(rules) > 2
    assert all(grid.baseline_of(cell)[0] == cell.accuracy[0] + 1 for cell in rules)
    (off,) = residuals(grid, set())
    assert off == pytest.approx(np.array([-0.5, 0.5]) * np.sqrt(2))


def test_the_section_has_a_row_for_each_experiment(rates):
    (row,) = [line for line in section(rates).splitlines() if line.startswith("| mlp-all-layers (cpu) | 2 |")]
    assert [float(cell.split(" (")[0]) for cell in row.split(" | ")[3:5]] == [2.5, 2.5]
    far = error_rates.error_rates([grid(np.zeros((0, 5)), settings=())])
    assert section(far) == ""
