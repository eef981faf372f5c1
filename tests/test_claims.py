"""Claims: what the records say is what the verdict says."""

from dataclasses import replace
from itertools import count
from math import nan

import pandas as pd
import pytest
import torch

from bench.data.linear_teacher import teacher
from bench.errors import UsageError
from bench.experiments import experiment
from bench.programs import run
from bench.records import Store
from replication import report
from replication.claims import CLAIMS
from replication.claims.base import bounded, judged, together
from replication.figures import FIGURES
from replication.results import largest, results
from replication.stats import ClaimVerdict
from replication.tables import accuracy_table, mode_strength, paper_number, pipe_table

SUPPORTED, REFUTED, OPEN, NOT_RUN = ClaimVerdict


def grid_of(name, scale, accuracies):
    """The experiment's grid with made-up accuracies by label, over the seeds of each list; the rest is not run."""
    grid = results(name, scale)
    runs = {label: dict(enumerate(map(record, values))) for label, values in accuracies.items()}
    return replace(grid, cells=tuple(replace(cell, records=runs.get(cell.label, {})) for cell in grid.cells))


def record(accuracy):
    if accuracy is nan:
        return {"status": "diverged"}
    config = {"model": "mlp", "dataset": "cifar10-jpeg", "rule": "bp", "epochs": 2, "seed": 0}
    history = [{"epoch": 1, "test": {"accuracy": 0.9 * accuracy}}, {"epoch": 2}]
    costs = {"flops": {}, "flops_layers": {}, "flops_step": 10, "seconds": 1.0}
    trained = {"receptive_fields": {"ascent": [], "noise": [], "active": []}}
    final = {"accuracy": accuracy}
    return {"status": "ok", "config": config, "history": history, "final": final, "trained": trained, **costs}


def around(mean, spread=0.1):
    return [mean - spread, mean, mean + spread, mean, mean]


GOOD = {"bp": around(59), "ldfa r=10": around(58.9), "bp width=64": around(52), "fa": around(50)}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, SUPPORTED),
        ({"ldfa r=10": around(57)}, REFUTED),
        ({"ldfa r=10": around(58.9)[:4]}, OPEN),
        ({"bp width=64": around(59.5)}, REFUTED),
        ({"bp width=64": []}, OPEN),
        ({"ldfa r=10": [58.9, 58.9, 58.9, 58.9, nan]}, OPEN),
        ({label: around(accuracies[1] - 10) for label, accuracies in GOOD.items()}, OPEN),
        ({label: [] for label in GOOD}, NOT_RUN),
    ],
    ids=["holds", "low", "four seeds", "narrow wins", "no narrow", "one diverged", "bp below its floor", "nothing"],
)
def test_all_layers(changes, verdict):
    found = grid_of("mlp-all-layers", "cpu", GOOD | changes)
    assert CLAIMS.get("n2").judge(found).verdict is verdict


def test_fa_fails_only_beyond_five_points():
    found = grid_of("mlp-all-layers", "cpu", GOOD)
    assert [part.verdict for part in CLAIMS.get("n2").judge(found).context] == [SUPPORTED] * 3
    close = grid_of("mlp-all-layers", "cpu", GOOD | {"fa": around(55)})
    assert [part.verdict for part in CLAIMS.get("n2").judge(close).context] == [SUPPORTED, REFUTED, SUPPORTED]


def test_one_layer_needs_every_layer():
    good = {"bp": around(59), **{f"ldfa B{i}=10": around(59) for i in (1, 2, 3)}}
    claim = CLAIMS.get("n1")
    assert claim.judge(grid_of("mlp-one-layer", "cpu", good)).verdict is SUPPORTED
    assert claim.judge(grid_of("mlp-one-layer", "cpu", good | {"ldfa B2=10": around(55)})).verdict is REFUTED
    assert claim.judge(grid_of("mlp-one-layer", "cpu", good | {"ldfa B2=10": []})).verdict is OPEN


def complete(**changes):
    """The grid of N2 with all its runs, which the claim supports; `changes` to the first record."""
    grid = grid_of("mlp-all-layers", "cpu", {})
    full = grid_of("mlp-all-layers", "cpu", {c.label: GOOD.get(c.label, around(58)) for c in grid.cells})
    common = {"device": {"type": "cpu"}, "data": {"name": "cifar10-jpeg", "sha256": {"train": "a"}}}
    for cell in full.cells:
        for seed in cell.records:
            cell.records[seed] |= common
    full.cells[0].records[0].update(changes)
    return full


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"device": {"type": "cuda"}}, "runs on cpu and cuda are mixed"),
        ({"data": {"name": "cifar10-jpeg", "sha256": {"train": "b"}}}, "of different checksums are mixed"),
    ],
)
def test_records_of_mixed_sources_are_not_judged(changes, remark):
    claim = CLAIMS.get("n2")
    assert judged(claim, complete()).verdict is SUPPORTED
    judgement = judged(claim, complete(**changes))
    assert judgement.verdict is OPEN
    assert remark in judgement.remark


def test_a_missing_run_withholds_the_verdict():
    grid = complete()
    del grid.cell("kp").records[3]
    judgement = judged(CLAIMS.get("n2"), grid)
    assert judgement.verdict is OPEN
    assert judgement.remark == "Not judged: 1 of 60 runs have no valid record."


def test_a_diverged_run_counts_as_chance_and_is_counted():
    found = grid_of("mlp-all-layers", "cpu", GOOD | {"fa": [50.0, nan]})
    assert found.accuracy("fa") == {0: 50.0, 1: 10.0}
    row = accuracy_table(found).text.set_index("setting").loc["`fa`"]
    assert row["runs"] == "1 of 5, 1 diverged or failed"


@pytest.mark.parametrize(
    ("values", "limits", "verdict"),
    [
        (around(1), {"below": 2}, SUPPORTED),
        (around(3), {"below": 2}, REFUTED),
        (around(2), {"below": 2}, OPEN),
        (around(1)[:4], {"below": 2}, OPEN),
        (around(3), {"above": 2}, SUPPORTED),
        (around(1), {"above": 2}, REFUTED),
        ([], {"above": 2}, NOT_RUN),
    ],
)
def test_the_whole_interval_decides_a_limit(values, limits, verdict):
    part = bounded("x", values, **limits)
    assert part.verdict is verdict
    assert together("both", [part, bounded("y", [5] * 9, above=1)]).n == len(values)


def test_an_open_limit_says_how_many_seeds_would_settle_it():
    part = bounded("x", around(1.9, spread=0.2), above=0, below=2)
    assert part.verdict is OPEN
    assert part.number == "1.9 [1.72, 2.08]; about 11 seeds would settle it at this mean and spread"
    assert part.seeds_needed == 11
    assert together("both", [part, bounded("y", around(1), below=2)]).seeds_needed == part.seeds_needed
    assert together("both", [part, bounded("y", around(3), below=2)]).seeds_needed is None


def test_fixed_and_learned_feedback_are_judged_by_rank():
    grid = grid_of("linear", "cpu", {})
    wrong = {"status": "ok", "history": [{"loss": 50.0}], "first_losses": [100.0]}
    right = wrong | {"history": [{"loss": 0.5}]}

    def filled(kind):
        cells = (replace(c, records={s: kind(c, s) for s in range(5)}) for c in grid.cells)
        return replace(grid, cells=tuple(cells))

    def by_rule(cell, seed):
        learned = cell.config.rule == "ldfa" and cell.rank >= int(cell.config.dataset.partition(":")[2])
        chosen = right if learned else wrong
        return chosen | {"history": [{"loss": chosen["history"][0]["loss"] * (1 + 0.01 * seed)}]}

    assert CLAIMS.get("l2").judge(filled(by_rule)).verdict is SUPPORTED
    assert CLAIMS.get("l3").judge(filled(by_rule)).verdict is SUPPORTED
    assert CLAIMS.get("l2").judge(filled(lambda c, s: right)).verdict is REFUTED
    assert CLAIMS.get("l3").judge(filled(lambda c, s: wrong)).verdict is REFUTED


def test_paper_numbers_stand_beside_their_cells():
    grid = grid_of("mlp-all-layers", "cpu", {})
    assert paper_number("mlp-all-layers", grid.cell("ldfa r=10")) == "61.84 ± 0.23 (n = 10)"
    assert paper_number("mlp-all-layers", grid.cell("bp")) == "62.75 ± 0.20 (n = 10)"
    assert paper_number("mlp-all-layers", grid.cell("bp width=64")) == ""
    assert paper_number("mlp-all-layers", grid.cell("ldfa-q r=10")) == ""
    one = grid_of("mlp-one-layer", "cpu", {})
    assert paper_number("mlp-one-layer", one.cell("ldfa B1=10")) == "62.63 ± 0.31 (n = 10)"
    assert paper_number("mlp-one-layer", one.cell("ldfa B2=10")) == ""


def test_mode_strength_is_relative_to_the_teacher():
    s = torch.linalg.svdvals(teacher(8, seed=3))[:8]
    learned = {"mode_strengths": [*s[:4].tolist(), *(s[4:] / 2).tolist()]}
    start = {"mode_strengths": [0.0] * 8}
    trained = {"config": {"dataset": "linear-teacher:8", "seed": 3}, "history": [start, learned]}
    assert mode_strength(trained) == pytest.approx(75)


@pytest.mark.parametrize("name", ["linear-rank", "mlp-all-layers", "mlp-one-layer"])
def test_figures_show_every_run(name):
    claim = next(CLAIMS.get(c) for c in CLAIMS.names() if CLAIMS.get(c).figure == name)
    grid = results(claim.experiment, "cpu")
    value = count(1)

    def ended():
        return record(float(next(value))) | {"history": [{"loss": next(value)}], "first_losses": [100.0]}

    cells = [replace(c, records={0: ended(), 1: ended()}) for c in grid.cells if c.label != "bp start=balanced"]
    figure, numbers = FIGURES.get(name)(replace(grid, cells=tuple(cells)))
    points = [y for ax in figure.axes for line in ax.lines for y in line.get_ydata()]
    points += [y for ax in figure.axes for scatter in ax.collections for y in scatter.get_offsets()[:, 1]]
    assert len(numbers) == 2 * len(cells)
    assert set(numbers.iloc[:, 4]) <= set(points)


def test_modes_are_drawn_as_recorded_and_as_predicted(tmp_path):
    grid = results("linear", "cpu")
    config = replace(grid.cell("ldfa r=8").config, epochs=50)
    cell = replace(grid.cell("ldfa r=8"), records={0: run(config, Store(tmp_path), "linear", "cpu", "cpu")})
    _, curves = FIGURES.get("linear-modes")(replace(grid, cells=(cell,)))
    start, end = (curves[curves["step"] == step] for step in (0, 50))
    assert list(start["mode"]) == [1, 3, 6, 8]
    assert list(start["simulation"]) == list(start["matrix_ode"])
    assert list(end["simulation"]) == pytest.approx(list(end["matrix_ode"]), rel=0.1)
    assert min(end["simulation"]) > max(start["simulation"])
    assert all(float(f"{strength:.4g}") == strength for strength in curves["matrix_ode"])


def test_a_scale_has_each_table_and_each_figure_once(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr(
        report,
        "results",
        lambda name, scale, folder: grid_of(name, scale, {"bp": around(59)} if name != "linear" else {}),
    )
    monkeypatch.setattr(report, "save", lambda figure, numbers, path: drawn.append(path.name))
    findings = report.write_scale("cpu")
    surveys = {"cnn-rules", "vit-rules"}
    assert sorted(drawn) == sorted({finding.claim.figure for finding in findings} | surveys)
    experiments = {finding.claim.experiment for finding in findings} | surveys
    details = {"e1", "r1", "s1"} & {finding.name for finding in findings}
    assert {path.stem for path in (tmp_path / "cpu/tables").iterdir()} == experiments | details
    text = (tmp_path / "cpu/REPORT.md").read_text()
    assert text.count("remaining loss (%)") == 1
    assert text.count("under L1") == 2


def test_nothing_is_written_where_the_readme_has_no_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report.README.write_text(f"{report.MARKS[0]} and no end")
    with pytest.raises(UsageError, match="marks"):
        report.write_report()
    assert list(tmp_path.iterdir()) == [tmp_path / report.README]


def test_claims_are_judged_on_the_largest_complete_scale(tmp_path, monkeypatch, made_up):
    """Records of two scales: cpu complete, gpu begun; and a deleted record is missed."""
    grid = "{seeds: 2, runs: [{rule: [bp, fa]}]}"
    (tmp_path / "tiny.yaml").write_text(f"{{title: tiny, model: linear, scales: {{cpu: {grid}, gpu: {grid}}}}}")
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path))
    small = experiment("tiny")

    def write(scale, runs):
        for config in runs:
            made_up(config, 0.0, scale, "tiny")

    write("cpu", small.configs("cpu"))
    write("gpu", small.configs("gpu")[:1])
    assert largest("tiny", tmp_path).scale == "cpu"
    deleted = small.configs("cpu")[0]
    Store(tmp_path / "cpu").path("tiny", deleted).unlink()
    results.cache_clear()
    found = results("tiny", "cpu", tmp_path)
    assert found.recorded == found.planned - 1
    assert largest("tiny", tmp_path).scale == "cpu"
    for path in Store(tmp_path / "cpu").paths("tiny"):
        path.unlink()
    results.cache_clear()
    assert largest("tiny", tmp_path).scale == "gpu"


def test_pipe_table():
    assert pipe_table(pd.DataFrame({"a": ["x"], "b": [1]})) == "| a | b |\n| --- | --- |\n| x | 1 |\n"
