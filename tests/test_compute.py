"""Compute: a step counted without numbers, crossings by hand, runs that never reach it, and the verdict of E1."""

from dataclasses import asdict, replace

import pytest

from bench.config import Config
from bench.data import load_once
from bench.training.costs import first_batch, flops_of_step
from bench.training.learner import build
from replication import compute
from replication.claims import CLAIMS
from replication.claims.base import judged
from replication.claims.e1 import _saved
from replication.compute import (
    Reached,
    authors_step,
    compute_table,
    curve,
    flops,
    of_bp,
    of_the_best,
    of_their_own,
    ratios,
    step_flops,
    until,
)
from replication.figures import FIGURES
from replication.machines import StepTimes
from replication.results import results
from replication.verdicts import ClaimVerdict, Level

HOLDS, FAILS, OPEN, TOO_FEW, NOT_RUN = ClaimVerdict
CONFIG = Config(model="mlp", dataset="cifar10", rule="bp", epochs=4, batch_size=50_000)
"""Four steps in all."""


def record(tests, *, step=10, status="ok"):
    """A run tested after each of four epochs."""
    history = [{"epoch": epoch, "test": {"accuracy": accuracy}} for epoch, accuracy in enumerate(tests[:-1], 1)]
    final = {"accuracy": tests[-1]}
    common = {"config": asdict(CONFIG), "status": status, "history": history, "final": final}
    costs = {"flops": {"forward": step}, "flops_layers": {"B1": {"forward": step}}, "flops_step": step}
    return common | costs


BP = record([30, 40, 45, 50])


def test_the_first_crossing_counts_linear_between_tests():
    assert curve(BP) == [(0, 10.0), (1, 30), (2, 40), (3, 45), (4, 50)]
    assert flops(BP) == 40
    assert until(BP, 20) == (5, True)
    assert until(BP, 42.5) == (25, True)
    assert until(record([48, 40, 45, 50]), 45).amount < 10
    assert until(BP, 51) == (40, False)


@pytest.mark.parametrize(("rule", "rank"), [("bp", None), ("ldfa", "1/4"), ("ldfa-track", "3")])
def test_a_step_without_numbers_takes_the_flops_of_one_with_them(rule, rank, monkeypatch):
    config = Config(model="cnn", dataset="digits", rule=rule, rank=rank, model_options={"width": 4}, batch_size=16)
    data = load_once("digits", 0)
    monkeypatch.setattr(compute, "IMAGE", tuple(data.train.inputs.shape[1:]))
    monkeypatch.setattr(compute, "_counted", {})
    assert step_flops(config) == flops_of_step(config, build(config, data), *first_batch(config, data))


def test_a_step_of_the_authors_networks_saves_a_fifth():
    assert authors_step("cnn", "ldfa", "1/8") == pytest.approx(0.764, abs=5e-4)
    assert authors_step("cnn", "ldfa", "1/4") == pytest.approx(0.861, abs=5e-4)
    assert authors_step("vit", "ldfa-track", "32") == pytest.approx(0.750, abs=5e-4)
    assert authors_step("vit", "ldfa-track", "64") == pytest.approx(0.820, abs=5e-4)


def grids(ldfa, bp=BP, seeds=5):
    """The grids of E1 at scale cpu with one run a rule, the same for all seeds, on both networks."""
    kinds = {"bp": bp, "ldfa": ldfa, "ldfa-track": ldfa}

    def filled(name):
        found = results(name, "cpu")
        cells = (
            replace(cell, records=dict.fromkeys(range(seeds), kinds[cell.config.rule]))
            if kinds.get(cell.config.rule)
            else replace(cell, records={})
            for cell in found.cells
        )
        return replace(found, cells=tuple(cells))

    return filled("cnn-rank"), filled("vit-rank")


def amounts(goals, rule, bp=BP):
    cnn, _ = grids(rule, bp)
    return ratios(cnn.cell("ldfa", "1/8"), cnn.cell("bp"), goals)


def test_costs_are_over_those_of_bp():
    found = amounts(of_bp(0.9), record([30, 40, 45, 50], step=7))
    assert {seed: ratio.amount for seed, ratio in found.items()} == pytest.approx(dict.fromkeys(range(5), 0.7))
    assert amounts(of_bp(0.9), None) == {}
    assert amounts(of_bp(0.9), BP, bp=record([10, 10, 10, 10])) == {}


def test_costs_need_a_run_of_bp_and_accuracies():
    cnn, _ = grids(BP)
    assert list(compute_table(cnn).numbers["step_over_bp"]) == [1.0] * len([cell for cell in cnn.cells if cell.ok])
    lost, _ = grids(BP, bp=record([10, 10, 10, 10], status="diverged"))
    linear = results("linear", "cpu")
    assert compute_table(lost).numbers.empty and linear.recorded and compute_table(linear).numbers.empty


def test_the_authors_measures_hold_each_run_to_another_accuracy():
    worse = record([20, 30, 36, 40])
    assert amounts(of_their_own(0.9), worse)[0] == (30 / 30, True)
    bp = record([30, 48, 52, 50])
    assert amounts(of_the_best({0: bp, 1: bp}), record([30, 40, 52, 51], step=5), bp)[0] == (15 / 30, True)
    assert amounts(of_the_best({0: bp}), worse, bp)[0] == (40 / 30, False)


@pytest.mark.parametrize(
    ("ldfa", "verdict"),
    [
        (record([44, 48, 50, 50], step=7), HOLDS),
        (record([30, 40, 45, 50], step=10), FAILS),
        (record([30, 40, 44, 44], step=10), FAILS),
        (record([10, 10, 10, 10], step=1), OPEN),
        (record([44, 48, 50, 50], step=7, status="diverged"), FAILS),
    ],
    ids=["cheaper", "alike", "never", "never, but cheap in all", "diverged"],
)
def test_a_run_that_never_gets_there_cannot_save(ldfa, verdict):
    judgement = CLAIMS.get("e1").judge(*grids(ldfa))
    assert [part.verdict for part in judgement.parts[4:]] == [verdict] * 2


def test_the_note_tells_a_saving_from_a_bound_and_from_none():
    def note(ldfa):
        return CLAIMS.get("e1").judge(*grids(ldfa)).notes[0]

    reached = note(record([44, 48, 50, 50], step=7))
    assert "never" not in reached and "The authors' two definitions add" in reached
    never = note(record([30, 40, 44, 44], step=5))
    assert "99% of the accuracy of bp, none (5 of 5 runs never get there);" in never
    assert "definitions" not in never
    some = [Reached(0.5, True), Reached(0.7, False)]
    assert _saved(some) == "at most 40% (1 of 2 runs never get there)"


def test_each_part_has_its_level_and_the_claim_that_of_its_runs():
    judgement = judged(CLAIMS.get("e1"), *grids(record([44, 48, 50, 50], step=7)))
    assert [part.level for part in judgement.parts] == [Level.PAPER] * 2 + [None] * 4
    assert [judgement.words_of(part) for part in judgement.parts[1:3]] == ["supported", "holds at reduced scale"]
    assert judgement.level is Level.REDUCED
    assert "saves, by what both have to reach" in judgement.notes[0] and judgement.n == 5
    assert judged(CLAIMS.get("e1"), *grids(record([44, 48, 50, 45], step=7))).parts[2].verdict is FAILS


def test_without_runs_the_step_alone_is_judged_and_the_claim_is_not():
    judgement = judged(CLAIMS.get("e1"), *grids(None, bp=None))
    assert judgement.verdict is NOT_RUN
    assert [part.verdict for part in judgement.parts] == [HOLDS] * 2 + [NOT_RUN] * 4
    assert judged(CLAIMS.get("e1"), *grids(record([44, 48, 50, 50], step=7), seeds=4)).verdict is TOO_FEW


def test_a_slim_transformer_is_judged_at_the_largest_rank_that_saves_as_much(monkeypatch):
    _, vit = grids(BP)
    monkeypatch.setattr("replication.claims.e1.step_ratio", lambda config: 0.6 + 0.03 * int(config.rank))
    assert CLAIMS.get("e1").reads(*grids(BP))[2] == vit.cell("ldfa-track", "4")


def test_a_cost_that_some_runs_never_reach_is_drawn_as_a_lower_bound():
    cnn, _ = grids(record([30, 40, 46, 46]))
    cells = cnn.cell("bp"), cnn.cell("ldfa", "1/8")
    figure, _ = FIGURES.get("compute")(replace(cnn, cells=cells))
    for ax in figure.axes:
        open_marks = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
        bars = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_label() != "bp"]
        assert len(open_marks) == len(ax.texts) == 2 and len(bars) == 1
        assert [text.xy for text in ax.texts] == [(*line.get_xdata(), *line.get_ydata()) for line in open_marks]


@pytest.fixture
def measured(monkeypatch):
    """What `bench speed` measured of the two networks at scale cpu."""
    seconds = {"cnn": {"bp": 2.0, "ldfa r = 1/8": 1.5}, "vit": {"bp": 4.0, "ldfa r = 2": 3.0, "ldfa-track r = 2": 1.0}}
    monkeypatch.setattr("replication.claims.e1.step_times", lambda model, scale: StepTimes("A CPU", seconds[model]))


def test_the_figure_has_every_rank(measured):
    found = grids(record([44, 48, 50, 50], step=7))
    figure, steps = FIGURES.get("compute-step")(*found)
    ranked = [cell for each in found for cell in each.cells if cell.config.rank]
    assert len(steps) == len(ranked) and len(figure.axes) == 3
    note = CLAIMS.get("e1").judge(*found).notes[-1]
    assert note.endswith("takes, by `bench speed`: the CNN under ldfa r=1/8 0.75 of the time of bp (A CPU).")
    kinds = {"CNN, ldfa", "ViT, ldfa", "ViT, ldfa-track"}
    marks = [{line.get_label(): line.get_marker() for line in ax.lines} for ax in figure.axes]
    marks = [{name: found[name] for name in kinds} for found in marks]
    assert marks == marks[:1] * 3 and len(set(marks[0].values())) == 3
    (cnn,) = [line for line in figure.axes[1].lines if line.get_label() == "CNN, ldfa"]
    assert len(cnn.get_xdata()) == 4, "r = 10 is not joined to the fractions of the channels"
    assert sum(len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1 for line in figure.axes[1].lines) > 10
    table = CLAIMS.get("e1").details(*found)
    assert len(table.text) == sum(len(each.cells) - 1 for each in found)
    times = table.numbers.set_index(["network", "setting"])["seconds"].dropna().to_dict()
    assert times == {("cnn", "ldfa r=1/8"): 0.75, ("vit", "ldfa r=2"): 0.75, ("vit", "ldfa-track r=2"): 0.25}


def test_a_network_that_nobody_timed_has_no_times(monkeypatch):
    monkeypatch.setattr("replication.claims.e1.step_times", lambda model, scale: StepTimes("", {}))
    found = grids(record([44, 48, 50, 50], step=7))
    assert len(FIGURES.get("compute-step")(*found)[0].axes) == 2
    assert CLAIMS.get("e1").details(*found).numbers["seconds"].isna().all()
