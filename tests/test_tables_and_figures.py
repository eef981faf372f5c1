"""The tables and figures of a scale show its runs."""

from dataclasses import replace
from itertools import count

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from test_claims import around, grid_of, record

from bench.data.linear_teacher import teacher
from bench.errors import UsageError
from bench.records.store import Store
from bench.stats import mean_interval
from bench.sweeps.groups import run
from replication import findings, report
from replication.authors import authors_number
from replication.claims import CLAIMS
from replication.figures import FIGURES
from replication.figures._against_bp import points_axis
from replication.figures.base import titled
from replication.results import results
from replication.sections import runs_of
from replication.tables import mode_strength, pipe_table


def test_paper_numbers_stand_beside_their_cells():
    grid = grid_of("mlp-all-layers", "cpu", {})
    assert authors_number("mlp-all-layers", grid.cell("ldfa", "10")) == "61.84 ± 0.23 (n = 10)"
    assert authors_number("mlp-all-layers", grid.cell("bp")) == "62.75 ± 0.20 (n = 10)"
    assert authors_number("mlp-all-layers", grid.cell("bp", width=64)) == ""
    assert authors_number("mlp-all-layers", grid.cell("kp")) == ""
    one = grid_of("mlp-one-layer", "cpu", {})
    assert authors_number("mlp-one-layer", one.cell("ldfa", "B1=10")) == "62.63 ± 0.31 (n = 10)"
    assert authors_number("mlp-one-layer", one.cell("ldfa", "B2=10")) == ""


def test_mode_strength_is_relative_to_the_teacher():
    s = torch.linalg.svdvals(teacher(8, seed=3))[:8]
    learned = {"mode_strengths": [*s[:4].tolist(), *(s[4:] / 2).tolist()]}
    start = {"mode_strengths": [0.0] * 8}
    trained = {"config": {"dataset": "linear-teacher:8", "seed": 3}, "history": [start, learned]}
    assert mode_strength(trained) == pytest.approx(75)


@pytest.mark.parametrize("name", ["linear-rank", "mlp-all-layers", "mlp-one-layer"])
def test_figures_show_every_run(name):
    claim = next(CLAIMS.get(c) for c in CLAIMS.names() if CLAIMS.get(c).figure == name)
    grid = results(claim.experiments[0], "cpu")
    value = count(1)

    def ended():
        return record(float(next(value))) | {"history": [{"loss": next(value)}], "first_losses": [100.0]}

    cells = [replace(c, records={0: ended(), 1: ended()}) for c in grid.cells if c.label != "bp start=balanced"]
    figure, numbers = FIGURES.get(name)(replace(grid, cells=tuple(cells)))
    points = [y for ax in figure.axes for line in ax.lines for y in line.get_ydata()]
    points += [y for ax in figure.axes for scatter in ax.collections for y in scatter.get_offsets()[:, 1]]
    assert len(numbers) == 2 * len(cells)
    drawn = numbers["remaining_loss" if name == "linear-rank" else "minus_bp"]
    assert set(drawn) <= {*points, 0.0}
    partly_logarithmic = any(ax.get_yscale() == "symlog" for ax in figure.axes)
    assert ("log scale beyond" in figure.axes[0].get_ylabel()) == partly_logarithmic


@pytest.mark.parametrize(("low", "scale"), [(-3.1, "linear"), (-7.0, "linear"), (-20.0, "symlog")])
def test_the_points_above_bp_are_drawn_alike_in_all_panels_and_not_below_the_axis(low, scale):
    axes = Figure().subplots(1, 2)
    axes[0].plot([0, 1], [-1.0, 0.5])
    axes[1].plot([0, 1], [low, 0.0])
    points_axis(axes)
    assert [ax.get_yscale() for ax in axes] == [scale, scale] and axes[1].get_ylim()[0] <= low
    assert ("log scale" in axes[0].get_ylabel()) == (scale == "symlog") and not axes[1].get_ylabel()
    assert axes[1].transAxes.inverted().transform(axes[1].transData.transform((1, low)))[1] > 0.03


@pytest.mark.parametrize("mean", [55.0, 40.0])
def test_intervals_and_seeds_are_within_the_axes(mean):
    recorded = {"bp": around(59, spread=0), "ldfa r=10": around(mean, 2.0), "bp width=64": around(mean + 1, 2.0)}
    figure, numbers = FIGURES.get("mlp-all-layers")(grid_of("mlp-all-layers", "cpu", recorded))
    interval = mean_interval(numbers["minus_bp"][numbers["rule"] == "ldfa"])
    lowest = min(interval.low, numbers["minus_bp"].min())
    assert figure.axes[0].get_ylim()[0] < lowest and figure.axes[0].get_ylim()[1] > interval.high


def test_an_interval_that_reaches_0_ends_in_an_arrow_on_a_logarithmic_axis():
    grid = results("linear", "cpu")
    losses = {"2": (40.0, 41.0), "8": (0.001, 5.0)}
    cells = [
        replace(cell, records={seed: ended(loss) for seed, loss in enumerate(losses[cell.config.rank])})
        for cell in (grid.cell("ldfa", rank, "linear-teacher:8") for rank in losses)
    ]
    figure, _ = FIGURES.get("linear-rank")(replace(grid, cells=tuple(cells)))
    assert [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() == "v"] == [[8]]
    assert figure.axes[0].get_ylim()[0] < 0.001


def ended(loss):
    return {"status": "ok", "history": [{"loss": loss}], "first_losses": [100.0]}


@pytest.mark.parametrize(
    ("scale", "command"), [("cpu", "make report"), ("quick", "python -m replication --scale quick")]
)
def test_runs_are_repeated_with_the_command_that_reports_their_scale(scale, command):
    assert runs_of(grid_of("linear", scale, {})).endswith(f"`bench sweep linear --scale {scale}`, then `{command}`.")


@pytest.mark.parametrize(
    ("figure", "experiment", "end"),
    [
        ("mlp-ablation", "mlp-ablation", ["10"]),
        ("mlp-dimension", "mlp-all-layers", ["10", "full"]),
        ("mlp-dimension", "mlp-all-layers", ["10"]),
    ],
)
def test_the_axis_of_the_ranks_ends_with_the_recorded_ones(figure, experiment, end):
    recorded = {"bp": around(59), "ldfa r=2": around(50)} | {f"ldfa r={rank}": around(58) for rank in end}
    drawn, _ = FIGURES.get(figure)(grid_of(experiment, "cpu", recorded))
    ranks = drawn.axes[0].xaxis
    assert [tick.label1.get_text() for tick in ranks.get_major_ticks()] == ["2", *end]
    assert ranks.get_view_interval()[1] < 10 * 2 ** len(end)


def test_a_rule_has_one_colour_in_every_panel_of_the_overview():
    mlp = grid_of("mlp-all-layers", "cpu", {"bp": around(59), "ldfa r=10": around(58)})
    vit = grid_of("vit-rank", "cpu", {"bp": around(59), "ldfa-track r=8": around(58)})
    figure, _ = FIGURES.get("overview")(mlp, vit)
    colours = {line.get_label(): line.get_color() for ax in figure.axes for line in ax.get_lines()}
    assert colours["ldfa, level full"] != colours["ldfa-track, level reduced"]


def test_the_overview_shows_every_level_that_is_near_the_paper_s():
    recorded = {"bp": around(59), "ldfa r=10": around(58)}
    paper, full, quick = (grid_of("mlp-all-layers", scale, recorded) for scale in ("paper", "cpu", "quick"))
    for scales, levels in (((paper, full, quick), ["paper", "full"]), ((quick,), ["reduced"])):
        figure, numbers = FIGURES.get("overview")(*scales)
        drawn = {line.get_label() for line in figure.axes[0].get_lines()}
        assert {f"ldfa, level {level}" for level in levels} == {label for label in drawn if label.startswith("ldfa")}
        assert list(dict.fromkeys(numbers["level"])) == levels


def test_the_title_of_a_figure_says_how_many_settings_are_not_run():
    grid = grid_of("cnn-rules", "cpu", {"bp": [80.0, 81.0]})
    figure = Figure()
    titled(figure, [], [grid], ["reduced"])
    assert figure.get_suptitle() == "cnn, cifar10, scale cpu, level reduced, n = 2, 9 settings not run"


def test_modes_are_drawn_as_recorded_and_as_predicted(tmp_path):
    grid = results("linear", "cpu")
    config = replace(grid.cell("ldfa", "8").config, epochs=50)
    cell = replace(grid.cell("ldfa", "8"), records={0: run(config, Store(tmp_path), "linear", "cpu", "cpu")})
    grid = replace(grid, cells=(cell, replace(cell, config=replace(config, dataset="linear-teacher:32"))))
    figure, curves = FIGURES.get("linear-modes")(grid)
    titled(figure, ["L1"], [grid], ["paper"])
    assert figure.get_suptitle() == "L1: linear, linear-teacher:8, seed 0, scale cpu, level paper"
    start, end = (curves[curves["step"] == step] for step in (0, 50))
    assert list(start["mode"]) == [1, 3, 6, 8]
    assert list(start["simulation"]) == list(start["matrix_ode"])
    assert list(end["simulation"]) == pytest.approx(list(end["matrix_ode"]), rel=0.1)
    assert min(end["simulation"]) > max(start["simulation"])
    assert all(float(f"{strength:.4g}") == strength for strength in curves["matrix_ode"])


def test_the_energy_that_P_keeps_is_shown_apart_for_the_layers_that_are_cut():
    layers = {
        layer: {"error_angle": 45.0, "weight_angle": 50.0, "kept_energy": kept}
        for layer, kept in {"B1": 0.2, "B2": 0.4, "B3": 1.0}.items()
    }
    grid = grid_of("alignment", "cpu", {"ldfa r=10": around(58)})
    for seed, run_of in grid.cell("ldfa", "10").records.items():
        run_of["history"] = [{"epoch": epoch, "layers": layers} for epoch in (0, seed + 1)]
    figure, curves = FIGURES.get("alignment")(grid)
    assert set(curves["kept_where_cut"].round(9)) == {0.3} and set(curves["kept_energy"].round(9)) == {0.533333333}
    random = [line.get_ydata()[0] for ax in figure.axes for line in ax.lines if line.get_label() == "random feedback"]
    assert random == pytest.approx([90, 90, (2 * 10 / 512 + 1) / 3, 10 / 512])


def test_a_scale_has_each_table_and_each_figure_once(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "FOLDER", tmp_path)

    def recorded(name, scale, folder):
        labels = [] if name in ("linear", "mlp-classes") else [cell.label for cell in results(name, scale).cells]
        return grid_of(name, scale, dict.fromkeys(labels, around(59)))

    for module in (report, findings):
        monkeypatch.setattr(module, "results", recorded)
    monkeypatch.setattr(report, "save", lambda figure, numbers, path: drawn.append(path.name))
    found = report.write_scale("cpu")
    surveys = {"cnn-rules", "compute", "mlp-rates", "vit-rules"}
    without = {"linear-modes", "linear-rank", "mlp-classes"}
    assert sorted(drawn) == sorted({finding.claim.figure for finding in found} - without | surveys)
    experiments = {name for finding in found for name in finding.claim.experiments} | surveys
    experiments -= {"linear", "mlp-classes"}  # without runs here
    details = {"e1", "h1", "r1", "s1", *(f"{name}-costs" for name in surveys)}
    assert {path.stem for path in (tmp_path / "cpu/tables").iterdir()} == experiments | details
    text = (tmp_path / "cpu/REPORT.md").read_text()
    for name, first in {"mlp-all-layers": "N2", "cnn-rank": "C1"}.items():
        assert text.count(f"The table of `{name}` is under {first}.") == 1


def test_nothing_is_written_where_the_readme_has_no_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report.README.write_text(f"{report.MARKS[0]} and no end")
    with pytest.raises(UsageError, match="marks"):
        report.write_report()
    assert list(tmp_path.iterdir()) == [tmp_path / report.README]


def test_pipe_table():
    assert pipe_table(pd.DataFrame({"a": ["x"], "b": [1]})) == "| a | b |\n| --- | --- |\n| x | 1 |\n"
