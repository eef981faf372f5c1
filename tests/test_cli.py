"""The command line: what it prints, what it records, its exit status, and what it says of bad input."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from math import nan
from textwrap import dedent

import pytest
import torch

from bench.cli import main
from bench.config import Config, parse
from bench.records.store import Store, failed_record

RUN = ["run", "--model", "mlp", "--rule", "bp", "--scale", "quick", "--set", "epochs=1"]
TINY = """
title: Two seeds of two rules; the second diverges
model: mlp
scales:
  quick:
    seeds: 2
    runs:
      - {rule: bp, epochs: 1}
      - {rule: ldfa, rank: "600", epochs: 1, lr: 1.0e+30}
"""


def experiments(folder, **texts):
    """A folder of experiments, in use."""
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return str(folder)


def numbers(record):
    return {key: record[key] for key in ("digest", "status", "history", "first_losses", "final", "data", "notes")}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The results of a sweep of `tiny`."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_EXPERIMENTS", experiments(folder / "experiments", tiny=TINY))
        sweep = ["sweep", "tiny", "--scale", "quick", "--results", str(folder / "results"), "--workers", "1"]
        assert main(sweep) == 0
    return folder


@pytest.fixture
def tiny(swept, tmp_path, monkeypatch):
    """A copy of those results, with the experiment in use."""
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(swept / "experiments"))
    return shutil.copytree(swept / "results", tmp_path / "results")


def test_help_imports_nothing_heavy():
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bench", "--help"], capture_output=True, text=True, check=True
    )
    commands = ("list", "run", "sweep", "tune", "compare", "data", "verify", "import")
    assert all(command in process.stdout for command in commands)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in process.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"torch", "numpy", "pandas", "scipy", "sklearn", "pyarrow", "dvc"}


def test_list_and_data(capsys, tiny):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("fa-lowrank", "mlp/1", "tiny-imagenet-32", "Two seeds of two rules"))
    assert main(["list", "models"]) == 0
    assert "fa-lowrank" not in capsys.readouterr().out
    assert main(["data"]) == 0
    assert "bench data --download cifar10" in capsys.readouterr().out


def test_run_makes_one_record_once_and_prints_one_line(tmp_path, capsys):
    command = [*RUN, "--rule", "ldfa", "--rank", "B1=10,B3=4", "--seed", "3", "--results", str(tmp_path)]
    assert main(command) == 0
    out, err = capsys.readouterr()
    (path,) = Store(tmp_path / "quick").paths()
    record = json.loads(path.read_text())
    assert out.count("\n") == 1
    accuracy = f"test accuracy {record['final']['accuracy']:.2f} %"
    assert all(part in out for part in ("ldfa", "rank B1=10,B3=4", accuracy, str(path)))
    assert err.count("epoch 1/1") == 1
    assert record["config"]["seed"] == 3 and record["device"]["threads"] == 1

    before = path.stat().st_mtime_ns
    assert main(command) == 0
    again, err = capsys.readouterr()
    assert (again, path.stat().st_mtime_ns) == (out, before) and "already recorded" in err
    assert main([*command, "--force"]) == 0
    assert path.stat().st_mtime_ns > before


def test_set_overrides_fields_and_keeps_the_others(tmp_path):
    values = ["lr=1e-3", "model_options.width=16", "rule_options.output=error", "augment=[flip]", "clip=null"]
    options = [word for value in values for word in ("--set", value)]
    assert main([*RUN, "--rule", "ldfa", *options, "--results", str(tmp_path)]) == 0
    (path,) = Store(tmp_path / "quick").paths()
    config = parse(Config, json.loads(path.read_text())["config"], "record")
    assert (config.lr, config.epochs, config.batch_size) == (1e-3, 1, 32)
    assert (config.model_options, config.rule_options) == ({"width": 16}, {"output": "error"})
    assert (config.augment, config.clip, config.rank) == (("flip",), None, "full")


def test_saved_weights_are_those_of_the_record(tmp_path):
    from bench.training.batches import Batches
    from bench.training.learner import prepare
    from bench.training.loop import evaluate

    assert main([*RUN, "--results", str(tmp_path)]) == 0
    assert main([*RUN, "--results", str(tmp_path), "--save-weights", str(tmp_path / "bp.pt")]) == 0
    (path,) = Store(tmp_path / "quick").paths()
    record = json.loads(path.read_text())
    config = parse(Config, record["config"], "record")
    data, learner = prepare(config, "cpu")
    learner.network.load_state_dict(torch.load(tmp_path / "bp.pt", weights_only=True))
    assert evaluate(learner, Batches(data.test, data, config)) == [record["final"]]


def test_a_run_equals_that_of_a_sweep_and_is_found_there(tiny, tmp_path, capsys):
    assert main([*RUN, "--seed", "1", "--results", str(tiny)]) == 0
    out, err = capsys.readouterr()
    assert "already recorded" in err and "records/tiny/" in out
    assert main([*RUN, "--seed", "1", "--results", str(tmp_path / "alone")]) == 0
    (path,) = Store(tmp_path / "alone/quick").paths()
    record = json.loads(path.read_text())
    assert numbers(record) == numbers(json.loads((tiny / "quick/records/tiny" / path.name).read_text()))


def test_a_sweep_runs_what_is_missing_cut_short_or_failed(tiny, tmp_path, capsys, monkeypatch):
    store = Store(tiny / "quick")
    paths = list(store.paths())
    records = [json.loads(path.read_text()) for path in paths]
    assert [record["status"] for record in records] == ["ok", "ok", "diverged", "diverged"]
    assert "rank 600 of B1 capped at 128" in records[2]["notes"][0]

    lone = TINY + "      - {rule: fa, batch_size: 1}"
    monkeypatch.setenv("BENCH_EXPERIMENTS", experiments(tmp_path / "experiments", tiny=lone))
    sweep = ["sweep", "tiny", "--scale", "quick", "--results", str(tiny), "--workers", "1"]
    paths[0].unlink()
    paths[2].write_text(paths[2].read_text()[:300])
    config = parse(Config, records[3]["config"], "record")
    store.write(failed_record(config, "tiny", "quick", "cpu", "lost"), paths[3])
    assert main([*sweep, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"all +│ +│ +6 │ +1 │ +5 │", out) and "estimate: " in out
    assert not paths[0].exists()

    assert main(sweep) == 1
    out = capsys.readouterr().out
    assert f"{paths[0].stem}  test accuracy" in out and out.count("diverged in epoch 1") == 2
    assert out.count("failed: ValueError") == 2 and "5/5  " in out
    assert [numbers(json.loads(path.read_text())) for path in paths] == [numbers(record) for record in records]


def test_a_budget_stops_the_sweep(tiny, tmp_path, capsys):
    sweep = ["sweep", "tiny", "--scale", "quick", "--results"]
    assert main([*sweep, str(tmp_path / "new"), "--budget", "0"]) == 0
    out = capsys.readouterr().out
    assert "no estimate: no run of this model is recorded yet" in out
    assert out.endswith("budget reached, 4 runs missing\n")
    next(Store(tiny / "quick").paths()).unlink()
    assert main([*sweep, str(tiny), "--budget", "0.001"]) == 2
    assert "--budget 0.001: too short for one run" in capsys.readouterr().err


def test_several_experiments_are_one_sweep_that_trains_a_run_they_share_once(tiny, tmp_path, monkeypatch, capsys):
    further = """
        title: What it shares, and one rule more
        model: mlp
        reuses: [tiny]
        scales: {quick: {seeds: 2, runs: [{rule: [bp, kp], epochs: 1}]}}
    """
    folder = experiments(tmp_path / "experiments", tiny=TINY, further=dedent(further))
    monkeypatch.setenv("BENCH_EXPERIMENTS", folder)
    sweep = ["sweep", "tiny", "further", "--scale", "quick", "--workers", "1", "--results", str(tmp_path / "both")]
    assert main([*sweep, "--dry-run"]) == 0
    assert re.findall(r"all +│ +│ +4 │ +0 │ +4 │", capsys.readouterr().out)
    assert main(sweep) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if re.match(r"\d/", line)] == [f"{n}/6" for n in range(1, 7)]
    store = Store(tmp_path / "both/quick")
    assert [path.name.partition("-")[0] for path in store.paths("further")] == ["kp", "kp"]
    alone, both = Store(tiny / "quick").paths("tiny"), store.paths("tiny")
    for before, now in zip(sorted(alone), sorted(both), strict=True):
        assert numbers(json.loads(before.read_text())) == numbers(json.loads(now.read_text()))
    assert main(sweep) == 0 and "estimate" not in capsys.readouterr().out


def test_a_population_gives_the_records_that_single_runs_give(tiny, tmp_path):
    sweep = ["sweep", "tiny", "--scale", "quick", "--workers", "1", "--results", str(tmp_path / "many")]
    assert main([*sweep, "--population", "2"]) == 0
    found = [json.loads(path.read_text()) for path in Store(tmp_path / "many/quick").paths()]
    single = [json.loads(path.read_text()) for path in Store(tiny / "quick").paths()]
    assert [record["digest"] for record in found] == [record["digest"] for record in single]
    assert {record["population"] for record in found} == {2} and {record["population"] for record in single} == {1}
    for one, other in zip(found, single, strict=True):
        assert one["status"] == other["status"]
        losses, expected = ([nan if x is None else x for x in run["first_losses"]] for run in (one, other))
        assert losses == pytest.approx(expected, rel=1e-3, nan_ok=True)


def test_verify_names_what_is_wrong(tiny, capsys):
    verify = ["verify", "--results", str(tiny), "--no-golden"]
    assert main(verify) == 0
    store = Store(tiny / "quick")
    cut, edited, gone, other = store.paths()
    cut.write_text(cut.read_text()[:-20])
    edited.write_text(edited.read_text().replace('"status": "ok"', '"status": "failed"'))
    gone.rename(store.folder / "records/tiny/surplus.json")
    record = json.loads(other.read_text())
    record["data"]["sha256"]["train"] = "0" * 64
    store.write(record, other)
    assert main(verify) == 1
    lines = capsys.readouterr().out.splitlines()
    said = {path.name: [line for line in lines if path.name in line] for path in (cut, edited, gone, other)}
    assert any("is truncated" in line for line in said[cut.name])
    assert any("was edited" in line for line in said[edited.name])
    assert any(line.startswith("missing") for line in said[gone.name])
    assert any("sha256" in line for line in said[other.name])
    assert any(line.startswith("extra") and "surplus" in line for line in lines)


def test_verify_wants_one_version_of_a_dataset(tmp_path, capsys, monkeypatch, made_up):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    monkeypatch.setattr("bench.records.provenance.expected", lambda name, seed: {})
    config = Config(model="mlp", dataset="cifar10", rule="bp")
    for seed in (0, 1):
        data = {"name": "cifar10", "sha256": {"test_batch": f"{seed}" * 64}}
        made_up(replace(config, seed=seed), 50.0, data=data)
    first, second = Store(tmp_path / "cpu").paths()
    assert main(["verify", "--results", str(tmp_path), "--no-golden"]) == 1
    *_, said, count = capsys.readouterr().out.splitlines()
    assert f"{second}: cifar10 has a different sha256 than in {first}" in said and "problems: 1" in count


YAMLS = {
    "typo": TINY.replace("seeds:", "sedes:"),
    "words": TINY.replace("seeds: 2", "seeds: two"),
    "broken": "title: [",
    "ruled": TINY + "      - {rul: bp}",
    "ranked": TINY + "      - {rule: bp, ranks: 10}",
    "layered": TINY + '      - {rule: ldfa, rank: "B9=10", epochs: 1}',
    "wide": TINY + "      - {rule: bp, epochs: 1, model_options: {widht: 10}}",
    "tiny": TINY,
}
BAD = {
    "rule": (["--rule", "ldfaa"], "'ldfaa'", "did you mean 'ldfa'", "bp, brsf"),
    "model": (["--model", "mpl"], "'mpl'", "did you mean 'mlp'", "linear"),
    "dataset": (["--dataset", "digit"], "'digit'", "did you mean 'digits'", "cifar10"),
    "classes": (["--dataset", "digits:11"], "'digits:11'", "1 to 10"),
    "scale": (["--scale", "quik"], "'quik'", "did you mean 'quick'", "paper"),
    "rank of a rule without": (["--rank", "3"], "--rank 3", "'bp' has no rank"),
    "rank zero": (["--rule", "ldfa", "--rank", "0"], "--rank 0", "from 1"),
    "rank negative": (["--rule", "ldfa", "--rank", "-1"], "--rank -1", "from 1"),
    "rank in words": (["--rule", "ldfa", "--rank", "ten"], "--rank ten", "from 1"),
    "rank of no layer": (["--rule", "ldfa", "--rank", "B9=3"], "--rank B9=3", "'B9'", "B1, B2, B3"),
    "network for other data": (["--model", "linear", "--dataset", "digits"], "--dataset digits", "regression"),
    "labels of a regression": (["--model", "linear", "--rule", "drtp"], "'drtp'", "class labels", "regression"),
    "no GPU": (["--device", "cuda"], "--device cuda", "expected: cpu"),
    "device": (["--device", "cdua"], "'cdua'", "did you mean 'cuda'"),
    "field": (["--set", "epoch=3"], "--set", "'epoch'", "did you mean 'epochs'"),
    "field's type": (["--set", "epochs=few"], "--set", "epochs", "'few'", "int"),
    "field's range": (["--set", "epochs=0"], "--set", "epochs", "0", "1 or more"),
    "field with an option": (["--set", "rank=3"], "--set rank=3", "--rank"),
    "no value": (["--set", "epochs"], "--set epochs", "KEY=VALUE"),
    "no part": (["--set", "lr.x=3"], "--set lr.x=3", "model_options, rule_options"),
    "network's option": (["--set", "model_options.widht=3"], "'widht'", "did you mean 'width'"),
    "network's option's value": (["--set", "model_options.width=-3"], "'width': -3", "mlp"),
    "rule's option": (["--rule", "ldfa", "--set", "rule_options.output=x"], "'x'", "targets, error"),
    "augmentation": (["--set", "augment=[spin]"], "'spin'", "flip"),
    "weights": (["--save-weights", "nowhere/w.pt"], "--save-weights nowhere/w.pt", "a writable folder"),
    "weights over a record": (["--save-weights", "a.json"], "--save-weights a.json", "could be a record"),
    "option": (["--sede", "3"], "--sede", "--seed"),
    "seed": (["--seed", "x"], "--seed", "integer"),
}
BAD_SWEEPS = {
    "experiment": (["tinyy"], "'tinyy'", "did you mean 'tiny'"),
    "scale": (["tiny", "--scale", "quik"], "'quik'", "did you mean 'quick'"),
    "scale not there": (["tiny", "--scale", "paper"], "--scale paper", "quick"),
    "workers": (["tiny", "--workers", "0"], "--workers", "greater than or equal to 1"),
    "key": (["typo"], "typo.yaml", "'sedes'", "did you mean 'seeds'"),
    "type": (["words"], "words.yaml", "seeds", "'two'", "int"),
    "not YAML": (["broken"], "broken.yaml", "not YAML"),
    "key of a run": (["ruled"], "ruled.yaml", "'rul'", "did you mean 'rule'"),
    "another key of a run": (["ranked"], "ranked.yaml", "'ranks'", "did you mean 'rank'"),
    "layer of a run": (["layered"], "B9=10", "B1, B2, B3"),
    "option of a run": (["wide"], "'widht'", "did you mean 'width'"),
}


def is_one_line(err, words):
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
    assert not [word for word in words if word not in err], err
    return True


@pytest.mark.parametrize("options", BAD.values(), ids=BAD)
def test_bad_input_of_run(options, tmp_path, capsys, monkeypatch):
    arguments, *words = options
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, *arguments]) == 2
    assert is_one_line(capsys.readouterr().err, words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", BAD_SWEEPS.values(), ids=BAD_SWEEPS)
def test_bad_input_of_sweep(options, tmp_path, capsys, monkeypatch):
    arguments, *words = options
    monkeypatch.setenv("BENCH_EXPERIMENTS", experiments(tmp_path / "experiments", **YAMLS))
    assert main(["sweep", "--scale", "quick", "--results", str(tmp_path / "results"), *arguments]) == 2
    assert is_one_line(capsys.readouterr().err, words)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", [RUN, ["sweep", "tiny", "--scale", "quick"]], ids=["run", "sweep"])
def test_data_missing_or_truncated(command, tmp_path, capsys, monkeypatch):
    text = TINY.replace("quick:\n", "quick:\n    datasets: [cifar10, tiny-imagenet-32]\n")
    monkeypatch.setenv("BENCH_EXPERIMENTS", experiments(tmp_path / "experiments", tiny=text))
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    dataset = ["--dataset", "tiny-imagenet-32"] if command is RUN else []
    command = [*command, *dataset, "--results", str(tmp_path / "results")]
    assert main(command) == 2
    assert is_one_line(capsys.readouterr().err, ["tiny-imagenet-32", str(tmp_path / "data"), "copy train.parquet"])
    (tmp_path / "data/tiny-imagenet-32").mkdir(parents=True)
    for split in ("train", "test"):
        (tmp_path / f"data/tiny-imagenet-32/{split}.parquet").write_bytes(b"PAR1")
    assert main(command) == 2
    assert is_one_line(capsys.readouterr().err, ["tiny-imagenet-32/train.parquet", "truncated or altered"])
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", [RUN, ["sweep", "tiny", "--scale", "quick"]], ids=["run", "sweep"])
def test_results_folder_that_cannot_be_written(command, tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([*command, "--results", str(tmp_path / "file")]) == 2
    assert is_one_line(capsys.readouterr().err, ["--results", str(tmp_path / "file"), "cannot be written"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "--download", "cifar"], ["'cifar'", "did you mean 'cifar10'"]),
        (["data", "--download", "digits"], ["'digits'", "built in"]),
        (["list", "rule"], ["'rule'", "did you mean 'rules'"]),
        (["verify", "--results", "nowhere"], ["--results nowhere", "SCALE/records"]),
        (["tune", "--model", "linear", "--scale", "quick"], ["--scale quick", "'linear'"]),
        (["tune", "--model", "mlp", "--scale", "quick", "--rule", "ldfap"], ["'ldfap'", "did you mean 'ldfa-p'"]),
        (["swep"], ["swep"]),
        (["run"], ["--model"]),
    ],
)
def test_bad_input_of_the_others(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA", "data")
    assert main(arguments) == 2
    assert is_one_line(capsys.readouterr().err, words)
    assert not list(tmp_path.iterdir())


def test_bad_input_as_typed(tmp_path):
    command = [sys.executable, "-m", "bench", *RUN, "--rule", "bq"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (2, "")
    assert is_one_line(process.stderr, ["'bq'", "did you mean 'bp'"])
    assert not list(tmp_path.iterdir())
