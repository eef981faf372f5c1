"""Our runs at the authors' settings beside their numbers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from replication.against_authors import beside_authors, best_accuracy, section, table, welch
from replication.authors import authors_experiments, authors_row
from replication.claims.n2 import CLAIM
from replication.results import results


def record(best, last):
    history = [{"epoch": 1, "test": {"accuracy": best}}, {"epoch": 2, "accuracy": last}]
    return {"status": "ok", "config": {"epochs": 2}, "history": history, "final": {"accuracy": last, "loss": 1.0}}


@pytest.fixture
def grid():
    """The MLP at scale paper: five runs of some settings, 0.5 points better at their best epoch than after the last."""
    means = {"bp": 62.6, "bp dropout=0.0": 62.0, "ldfa r=10": 61.0, "ldfa r=10 dropout=0.0": 60.0, "bp width=64": 55.0}
    recorded = results("mlp-all-layers", "paper")

    def runs(cell):
        if cell.label not in means:
            return {}
        return {seed: record(means[cell.label] + 0.1 * seed, means[cell.label] + 0.1 * seed - 0.5) for seed in range(5)}

    return replace(recorded, cells=tuple(replace(cell, records=runs(cell)) for cell in recorded.cells))


def test_levels_stand_at_the_best_epoch_and_losses_are_against_bp_of_the_same_network(grid):
    numbers = table([grid, grid]).numbers.set_index("setting")
    assert list(numbers.index) == ["bp", "ldfa r=10", "bp dropout=0.0", "ldfa r=10 dropout=0.0"]
    assert numbers["best_epoch"]["ldfa r=10"] == pytest.approx(61.2)
    assert numbers["last_epoch"]["ldfa r=10"] == pytest.approx(60.7)
    assert numbers["minus_authors"]["ldfa r=10"] == pytest.approx(61.2 - 61.84)
    assert numbers["minus_bp"]["ldfa r=10 dropout=0.0"] == pytest.approx(-2)
    assert numbers["authors_minus_bp"]["ldfa r=10"] == pytest.approx(61.84 - 62.75)
    assert numbers["within_two_sd"].to_dict() == {
        "bp": True, "bp dropout=0.0": False, "ldfa r=10": False, "ldfa r=10 dropout=0.0": False
    }  # fmt: skip
    text = section(table([grid]))
    assert "| mlp `bp` | 5 | 62.75 ± 0.20 (n = 10) | 62.80 [62.60, 63.00] | 62.30 [62.10, 62.50] | +0.05" in text


def test_without_records_the_section_says_so(grid):
    empty = replace(grid, cells=tuple(replace(cell, records={}) for cell in grid.cells))
    assert section(table([empty])).endswith("No such setting is recorded yet.\n")
    assert beside_authors(empty) == ""


def test_a_claim_says_how_far_its_settings_are_from_the_authors(grid):
    text = beside_authors(grid)
    assert "at the best epoch" in text and "`bp` +0.05 [" in text and "`ldfa r=10 dropout=0.0` -1.64 [" in text
    assert text in CLAIM.judge(grid).notes


def test_the_interval_is_that_of_welchs_test(grid):
    theirs = np.random.default_rng(0).normal(62, 0.3, 10)
    ours = [61.0, 61.5, 61.2, 61.9, 61.4]
    row = authors_row("mlp-all-layers", grid.cell("bp")).copy()
    row["mean"], row["std"], row["repeats"] = theirs.mean(), theirs.std(), len(theirs)
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    interval = welch(ours, row)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert welch([61.0], row).high == float("inf")


def test_the_best_epoch_may_be_the_last():
    assert best_accuracy(record(60.0, 61.0)) == best_accuracy(record(61.0, 60.0)) == 61.0


def test_a_part_of_another_dataset_has_no_number_of_theirs():
    assert authors_experiments() == ["mlp-all-layers", "mlp-one-layer", "vit-rank", "retina"]
    classes = results("mlp-classes", "paper")
    assert not [cell for cell in classes.cells if authors_row("mlp-classes", cell) is not None]
