"""Compute to an accuracy: crossings by hand, runs that never get there, and the verdict of E1."""

from dataclasses import asdict, replace

import pytest

from bench.config import Config
from replication.claims import CLAIMS
from replication.compute import curve, flops, ratios, seconds, until
from replication.results import results
from replication.stats import ClaimVerdict

CONFIG = Config(model="mlp", dataset="cifar10-jpeg", rule="bp", epochs=4, batch_size=50_000)
"""Four steps in all."""


def record(tests, *, step=10, status="ok"):
    """A run tested after each of four epochs."""
    history = [{"epoch": epoch, "test": {"accuracy": accuracy}} for epoch, accuracy in enumerate(tests[:-1], 1)]
    final = {"accuracy": tests[-1]}
    common = {"config": asdict(CONFIG), "status": status, "history": history, "final": final}
    costs = {"flops": {"forward": step}, "flops_layers": {"B1": {"forward": step}}, "flops_step": step, "seconds": 8.0}
    return common | costs


BP = record([30, 40, 45, 50])


def test_the_first_crossing_counts_linear_between_tests():
    assert curve(BP) == [(0, 10.0), (1, 30), (2, 40), (3, 45), (4, 50)]
    assert flops(BP) == 40
    assert until(BP, 20, flops) == (5, True)
    assert until(BP, 42.5, flops) == (25, True)
    assert until(BP, 42.5, seconds) == (5, True)
    assert until(record([48, 40, 45, 50]), 45, flops).amount < 10
    assert until(BP, 51, flops) == (40, False)


def grid(**runs):
    """The grid of E1 with one run by rule, the same for five seeds."""
    found = results("compute", "cpu")

    def cell(cell):
        kind = runs.get(cell.config.rule.replace("-", "_"))
        return replace(cell, records=dict.fromkeys(range(5), kind) if kind else {})

    return replace(found, cells=tuple(map(cell, found.cells)))


def test_costs_are_over_those_of_bp():
    found = grid(bp=BP, ldfa=record([30, 40, 45, 50], step=7))
    assert {seed: ratio.amount for seed, ratio in ratios(found, "ldfa r=10", 0.9, flops).items()} == pytest.approx(
        dict.fromkeys(range(5), 0.7)
    )
    assert ratios(found, "ldfa r=10", 0.9, seconds)[0].amount == 1
    assert ratios(grid(bp=BP), "ldfa r=10", 0.9, flops) == {}


@pytest.mark.parametrize(
    ("ldfa", "verdict"),
    [
        (record([44, 48, 50, 55], step=7), ClaimVerdict.SUPPORTED),
        (record([30, 40, 45, 50], step=10), ClaimVerdict.NOT_SUPPORTED),
        (record([30, 40, 44, 44], step=10), ClaimVerdict.NOT_SUPPORTED),
        (record([10, 10, 10, 10], step=1), ClaimVerdict.INCONCLUSIVE),
        (record([44, 48, 50, 55], step=7, status="diverged"), ClaimVerdict.NOT_SUPPORTED),
    ],
    ids=["cheaper", "alike", "never", "never, but cheap in all", "diverged"],
)
def test_a_run_that_never_gets_there_cannot_save(ldfa, verdict):
    judgement = CLAIMS.get("e1").judge(grid(bp=BP, ldfa=ldfa))
    assert {part.verdict for part in judgement.parts} == {verdict}
