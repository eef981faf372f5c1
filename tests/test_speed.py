"""`bench speed`: the rows and their arithmetic, by hand and on tiny sizes. No time is judged."""

import json
from dataclasses import fields

import pytest
import torch

import bench.commands.speed as command
from bench.cli import main
from bench.speed import ROWS, base, epoch, feedback, floor, gpu, loop, outside, population, rank, steps, sweep
from bench.speed.base import Measurement, Rounds, Row, alternate
from bench.speed.machine import describe, slug
from bench.speed.networks import settings, square
from bench.training.costs import flops_of
from replication import speed as figures
from replication.machines import StepTimes, step_times

TINY_VIT = {"model_options": {"width": 16, "depth": 1, "heads": 2}, "batch_size": 4}


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    for name, value in {"LEAST_ROUNDS": 2, "ROUNDS": 2, "WARM_UP": 0}.items():
        monkeypatch.setattr(base, name, value)
    monkeypatch.setattr(command, "train_alone", lambda: None)


def test_a_measurement_is_the_median_of_the_ratios_of_the_rounds():
    """Not the ratio of the medians, which is 2 / 2."""
    rounds = Rounds(wall=[{"a": 1.0, "b": 4.0}, {"a": 2.0, "b": 2.0}, {"a": 3.0, "b": 1.0}, {"a": 6.0, "b": 2.0}])
    rounds.cpu = [{"a": 1.0, "b": 2.0}]
    found = rounds.measurement(lambda seconds: seconds["a"] / seconds["b"], flops=7)
    assert (found.value, found.quartiles, found.rounds, found.cpu_value) == (2.0, (0.8125, 3.0), 4, 0.5)
    assert found.numbers == {"seconds": {"a": 2.5, "b": 2.0}, "flops": 7}
    assert rounds.measurement(lambda seconds: seconds["a"], alone=False).cpu_value is None


def test_sides_take_turns(monkeypatch):
    monkeypatch.setattr(base, "WARM_UP", 1)
    calls = []
    rounds = alternate({name: lambda name=name: calls.append(name) for name in "ab"})
    assert (calls, len(rounds.wall), len(rounds.cpu)) == (["a", "b"] * 3, 2, 2)
    calls.clear()
    alternate({"a": lambda: calls.append("a")}, rounds=1)
    assert calls == ["a"]


def test_the_floor_by_hand():
    """3 G FLOPs at 2 G a second and 8 GB at 4 GB a second."""
    assert floor.floor(3e9, 2e9, 8e9, 4e9) == 3.5
    trainee = square(8, "bp", layers=2, batch=4)
    assert trainee.parameters() == 2 * (8 * 8 + 8)
    assert flops_of(floor.products_of(trainee)) == 2 * 2 * 4 * 8 * 8
    assert flops_of(trainee.backward) == 3 * 2 * 2 * 4 * 8 * 8
    stream = floor.Stream(5)
    stream()
    assert (stream.a.tolist(), stream.bytes) == ([1.0] * 5, 60)


def test_a_step_over_its_floor_by_hand(monkeypatch):
    """Products take a second a third of the step's FLOPs, and the stream a second for its 12 bytes a number."""
    monkeypatch.setattr(floor, "alternate", lambda sides: Rounds(wall=[{"step": 10.0, "products": 1.0, "stream": 1.0}]))
    monkeypatch.setattr(floor, "ADAM_HOLDS", 6)
    found = floor.over_floor(square(8, "bp", layers=2, batch=4))
    assert found.value == pytest.approx(10 / (3 + 9 * 4 / (3 * 12)))
    assert found.numbers["bytes"] == {"step": 36 * 144, "stream": 36 * 144}


def test_low_rank_flops_by_hand():
    """Of the network: two products a layer, and G P, P Q and P'dW. Of the feedback: what Oja's rule adds to these."""
    n, width, r = 8, 16, 10
    products, low = 2 * n * width * width, 2 * n * width * r
    oja = low + 2 * n * r * r + 2 * width * r * r
    assert flops_of(square(width, "ldfa", layers=1, batch=n).backward) == 2 * products + 3 * low + oja
    assert flops_of(rank.feedback_of(width, r, n)) == 3 * low + oja


def test_every_setting_of_the_ranks_is_timed_beside_bp(monkeypatch, tmp_path):
    """The report finds the seconds by the names that the rows give the settings."""
    monkeypatch.setattr(steps, "of_protocol", lambda config, device: square(8, config.rule, layers=2, batch=4))
    found = steps.steps("cnn", "cpu", "ldfa r = 1/8")
    ranks = ["1/8", "1/4", "1/2", "full", "10"]
    assert list(found.numbers["flops"]) == ["bp", *(f"ldfa r = {rank}" for rank in ranks), "fa"]
    row = {"name": "cnn-steps", "value": found.value, "numbers": found.numbers}
    (tmp_path / "machine.json").write_text(
        json.dumps({"machine": {"cpu": "A CPU", "gpu": None}, "rows": [row, row | {"value": None}]})
    )
    assert step_times("cnn", "cpu", tmp_path) == ("A CPU", found.numbers["seconds"])
    assert step_times("cnn", "gpu", tmp_path) == step_times("vit", "cpu", tmp_path) == StepTimes("", {})


def test_each_round_of_the_sweep_trains_its_runs(monkeypatch):
    """A sweep does not repeat what is recorded: with one store, its second round would take no time."""
    monkeypatch.setattr(sweep, "cores", lambda: 1)
    stores = []
    monkeypatch.setattr(sweep, "run_all", lambda plans, store, *_, **__: stores.append(list(store.paths("speed"))))
    monkeypatch.setattr(sweep, "run", lambda config, store, *_: store.write({}, store.path("speed", config)))
    sweep.sweep(1, 2)
    assert stores == [[], []]


def test_the_slope():
    assert rank.slope([1.0, 2.0, 4.0], [5.0, 7.0, 11.0]) == pytest.approx(2.0)


def test_the_share_outside_the_steps():
    rounds = Rounds()
    outside._run(settings("mlp", "ldfa", epochs=1, model_options={"width": 8}), outside.images(256), rounds)
    times = rounds.wall[0]
    assert 0 < times["steps"] < times["run"]


TINY_ROWS = {
    "square": lambda: feedback.squares(16, layers=2, batch=4),
    "mlp": lambda: feedback.mlp(model_options={"width": 8}, batch_size=4),
    "square-step": lambda: floor.squares(16, layers=2, batch=4),
    "mlp-step": lambda: floor.mlp(model_options={"width": 8}, batch_size=4),
    "plain": lambda: loop.plain_step(4),
    "epoch": lambda: epoch.usual_epoch(128),
    "rank": lambda: rank.over_rank(16, (2, 4), 8),
    "outside": lambda: outside.share(0.1, 256, 1),
    "sweep": lambda: sweep.sweep(1, 1),
    "population": lambda: population.population("cpu", (1, 3), model_options={"width": 8}, batch_size=4),
    "vit": lambda: gpu.vit("cpu", "cpu", **TINY_VIT),
    "vit-epoch": lambda: gpu.epoch(settings("vit", "bp", "gpu", precision="bfloat16", **TINY_VIT), "cpu", 8),
}


@pytest.mark.parametrize("measure", TINY_ROWS.values(), ids=TINY_ROWS)
def test_every_row_runs(measure):
    found = measure()
    assert found.quartiles[0] <= found.value <= found.quartiles[1]
    json.dumps(found.numbers)


@pytest.fixture
def quick_rows(monkeypatch):
    """Rows that need no time: one that is measured, one for a GPU, one that lacks a package."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    measured = Measurement(0.75, (0.5, 1.0), 9, 0.7, {"seconds": {"a": 1.0, "b": 2.0}, "flops": {"a": 3, "b": 4}})
    rows = [
        Row("square-16", "first", lambda: measured, 0.72, 0.67),
        Row("on-gpu", "second", lambda: measured, 0.9, device="cuda"),
        Row("peer", "third", lambda: measured, package="no_such_package"),
    ]
    monkeypatch.setattr(command, "ROWS", {row.name: row for row in rows})


def test_json_and_the_file_of_the_machine(quick_rows, tmp_path, capsys):
    assert main(["speed", "--json", "--results", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "speed" / f"{slug(printed['machine'])}.json").read_text())
    assert kept == printed
    assert printed["machine"].keys() >= {"cpu", "cores", "threads", "cpu_mhz", "gpu", "gpu_mhz", "torch"}
    assert [(row["name"], row["value"], row["target"], row["limit"]) for row in printed["rows"]] == [
        ("square-16", 0.75, 0.72, 0.67),
        ("on-gpu", None, 0.9, None),
        ("peer", None, None, None),
    ]
    assert [row.get("note") for row in printed["rows"]] == [None, "needs a GPU", "no_such_package is not installed"]
    assert printed["rows"][0].keys() >= {field.name for field in fields(Measurement)}


def test_the_table_shows_a_missed_target_and_fails_nothing(quick_rows, capsys):
    assert main(["speed", "--rows", "square-16", "--rows", "on-gpu"]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("0.750", "0.500 to 1.000", "0.72", "needs a GPU"))
    assert "peer" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "squares-16"], "unknown row 'squares-16' (did you mean 'square-16'?); expected: square-16"),
        (["--rows", "peer", "--results", "here"], "expected: no --rows"),
    ],
)
def test_bad_input(quick_rows, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["speed", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_rows_have_names_of_their_own_and_targets_above_their_limits():
    assert all(name == row.name for name, row in ROWS.items())
    judged = [row for row in ROWS.values() if row.target is not None]
    assert len(judged) == 16
    assert all(row.limit is None or row.limit < row.target for row in judged)


def test_a_machine_has_a_file_name():
    machine = describe() | {"cpu": "Intel(R) Xeon(R) 6 @ 2.3GHz", "cores": 2, "gpu": "NVIDIA H200"}
    assert slug(machine) == "intel-xeon-6-2-3ghz-2-cores-nvidia-h200"


def keep(folder, rows):
    (folder / "box.json").write_text(json.dumps({"machine": describe(), "rows": rows}))


def test_the_figure_of_a_machine(tmp_path):
    """Counted beside measured: a rank whose FLOPs are a quarter of the full product's, a width at ratio 0.5."""
    measured = {
        "rank": {
            "seconds": {"r = 4": 0.5, "full product": 1.0},
            "flops": {"r = 4": 2, "full product": 8},
            "ranks": [4],
        },
        "square-16": {"flops": {"ldfa": 1, "bp": 2}},
        "population-cpu": {"seconds": {"1 at once": 1.0, "3 at once": 2.0, "alone": 0.9}, "sizes": [1, 3]},
    }
    rows = [{"name": name, "value": 0.7, "quartiles": [0.6, 0.8], "numbers": n} for name, n in measured.items()]
    keep(tmp_path, [*rows, {"name": "vit", "value": None}])
    figures.write(tmp_path)
    assert (tmp_path / "box.png").exists()
    numbers = figures.over_rank({row["name"]: row for row in rows}).iloc[0]
    assert (numbers["measured"], numbers["counted"]) == (500.0, 250.0)
    numbers = figures.over_width({row["name"]: row for row in rows}).iloc[0]
    assert (numbers["x"], numbers["measured"], numbers["counted"], numbers["high"]) == (16, 0.7, 0.5, 0.8)
    numbers = figures.over_population({row["name"]: row for row in rows}).iloc[1]
    assert (numbers["x"], numbers["measured"], numbers["counted"]) == (3, 2000.0, pytest.approx(2700.0))


def test_the_report_shows_what_a_machine_measured_against_its_target(tmp_path):
    row = {"what": "a step", "unit": "", "value": 0.7, "quartiles": [0.61, 0.8], "limit": 0.5}
    met, missed, open_ = ({"name": f"to {target}"} | row | {"target": target} for target in (0.7, 0.69, None))
    keep(tmp_path, [met, missed, open_, {"name": "vit", "value": None}])
    lines = figures.section(tmp_path).splitlines()
    assert "| `to 0.7` a step | 0.7 | 0.61 to 0.8 | 0.7 | 0.5 | met |" in lines
    assert "| `to 0.69` a step | 0.7 | 0.61 to 0.8 | 0.69 | 0.5 | missed |" in lines
    assert "| `to None` a step | 0.7 | 0.61 to 0.8 |  | 0.5 |  |" in lines
    assert "vit" not in figures.section(tmp_path) and "(box.svg)" in lines[-1]
