"""Records made on another machine: they come in where they fit, and are refused with the reason where they do not."""

import json
import os
import re
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml
from dvc.repo import Repo

from bench.cli import main
from bench.config import Config, parse
from bench.data import DATASETS
from bench.models.mlp import MLP
from bench.records.replay import STEPS, TOLERANCES, disagreement
from bench.records.store import SCHEMA, Store, failed_record
from bench.sweeps.experiments import experiment
from bench.sweeps.groups import run
from bench.sweeps.sharing import Claims
from bench.sweeps.tune import choose, trials
from bench.training.loop import train

ROOT = Path(__file__).parent.parent
TINY = """
title: Two seeds of two rules
model: mlp
scales:
  quick:
    seeds: 2
    runs:
      - {rule: bp, epochs: 1}
      - {rule: ldfa, rank: "10", epochs: 1}
"""


def make(name, scale, configs, folder):
    """Records of runs, as a sweep makes them."""
    for config in configs:
        run(config, Store(folder / scale), name, scale, "cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The results of a sweep of `tiny`, as the other machine has them."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "experiments").mkdir()
    (folder / "experiments/tiny.yaml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_EXPERIMENTS", str(folder / "experiments"))
        make("tiny", "quick", experiment("tiny").configs("quick"), folder / "out")
    return folder


@pytest.fixture
def out(made, tmp_path, monkeypatch):
    """A copy of those results; this machine has none, and the current folder is empty."""
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(made / "experiments"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return shutil.copytree(made / "out", tmp_path / "out")


def bring(source, capsys):
    """Exit status and lines of an import."""
    status = main(["import", str(source)])
    return status, capsys.readouterr().out.splitlines()


def paths(folder):
    return list(Store(Path(folder) / "quick").paths())


def rewrite(path, **changes):
    """Gives a record other content, sealed; changes of its configuration move it to its name. Returns its path."""
    record = json.loads(path.read_text())
    config = replace(parse(Config, record["config"], "record"), **changes.pop("config", {}))
    path.unlink()
    path = path.with_name(config.slug + ".json")
    Store(path.parents[2]).write(record | {"config": asdict(config), "digest": config.digest} | changes, path)
    return path


def fail(path):
    """Puts the record of a run that failed in the place of another."""
    config = parse(Config, json.loads(path.read_text())["config"], "record")
    Store(path.parents[2]).write(failed_record(config, "tiny", "quick", "cpu", "no memory"), path)


def losses(path):
    return json.loads(path.read_text())["first_losses"]


@pytest.mark.parametrize("packed", [None, "gztar", "tar", "zip"])
def test_what_fits_comes_in_as_it_is_and_once(packed, out, tmp_path, capsys):
    source = shutil.make_archive(tmp_path / "packed", packed, tmp_path, "out") if packed else out
    assert bring(source, capsys) == (0, ["records   imported: 4, already here: none, refused: none"])
    assert [(path.name, path.read_bytes()) for path in paths("results")] == [
        (path.name, path.read_bytes()) for path in paths(out)
    ]
    written = [path.stat().st_mtime_ns for path in paths("results")]
    assert bring(source, capsys) == (0, ["records   imported: none, already here: 4, refused: none"])
    assert [path.stat().st_mtime_ns for path in paths("results")] == written


def edited(path):
    path.write_text(path.read_text().replace('"status": "ok"', '"status": "fine"'))


def cut_short(path):
    path.write_text(path.read_text()[:-20])


def renamed(path):
    path.rename(path.with_name("bp-s7-00000000.json"))


def misplaced(path):
    (path.parents[1] / "other").mkdir()
    path.rename(path.parents[1] / "other" / path.name)


def with_data(path, **changes):
    return rewrite(path, data=json.loads(path.read_text())["data"] | changes)


REFUSED = {
    "edited": (edited, "was edited"),
    "cut short": (cut_short, "is truncated"),
    "renamed": (renamed, "a different configuration than its name says"),
    "stale": (lambda path: rewrite(path, task=f"mlp/{MLP.version + 1}"), f"is stale: task mlp/{MLP.version + 1}"),
    "schema": (lambda path: rewrite(path, schema=SCHEMA + 1), f"has schema {SCHEMA + 1}"),
    "incomplete": (lambda path: rewrite(path, data={}), "data: key 'name' is missing"),
    "misplaced": (misplaced, "belongs to experiment tiny at scale quick, not to its folder"),
    "other scale": (lambda path: rewrite(path, scale="cpu"), "at scale cpu, not to its folder"),
    "failed": (lambda path: fail(path), "failed, so it has no result: no memory"),
    "data": (lambda path: with_data(path, sha256={"train": "0" * 64, "test": "0" * 64}), "has a different sha256"),
    "part of the data": (lambda path: with_data(path, sha256={}), "has a different sha256"),
    "data's name": (lambda path: with_data(path, name="digits:5"), "data: 'digits:5' is not allowed; expected: digits"),
    "no such data": (
        lambda path: rewrite(path, config={"dataset": "digit"}),
        "'digit', which is not installed",
    ),
    "few losses": (lambda path: rewrite(path, first_losses=losses(path)[:2]), "first_losses: has 2 steps"),
    "another seed": (lambda path: rewrite(path, config={"seed": 9}), "loss of step 1 is"),
    "another rate": (lambda path: rewrite(path, config={"lr": 3e-3}), "loss of step 2 is"),
    "another rule": (lambda path: rewrite(path, config={"rule": "fa"}), "loss of step 2 is"),
    "cannot run": (lambda path: rewrite(path, config={"rank": "3"}), "losses cannot be checked: --rank 3"),
}


@pytest.mark.parametrize(("damage", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_record_that_does_not_fit_is_refused_and_the_others_come_in(damage, reason, out, capsys):
    bp, same, *others = paths(out)
    same.unlink()
    before = set(paths(out))
    damage(bp)
    damaged = (set(paths(out)) - before) or {bp}
    status, lines = bring(out, capsys)
    assert status == 1
    assert lines[-1] == "records   imported: 2, already here: none, refused: 1"
    (line,) = lines[:-1]
    assert line.startswith(f"refused   {damaged.pop().relative_to(out)}: ") and reason in line
    assert [path.name for path in paths("results")] == [path.name for path in others]


@pytest.mark.parametrize(("factor", "fits"), [(1 + 1e-5, True), (1 + 1e-3, False)])
def test_losses_differ_by_rounding_alone_and_a_setting_comes_in_whole_or_not(factor, fits, out, capsys):
    bp, second, *_ = paths(out)
    first, *others = losses(bp)
    rewrite(bp, first_losses=[factor * first, *others])
    status, lines = bring(out, capsys)
    assert status == (not fits) and len(paths("results")) == (4 if fits else 2)
    if not fits:
        assert [line.split(": ")[0] for line in lines[:2]] == [f"refused   {p.relative_to(out)}" for p in (bp, second)]
        assert f"the run {bp.stem} of its setting does not match" in lines[1] and bp.stem not in lines[1].split(": ")[0]


def test_losses_are_not_checked_without_the_data(out, tmp_path, capsys, monkeypatch, made_up):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    shutil.rmtree(out / "quick/records/tiny")
    config = Config(model="mlp", dataset="cifar10", rule="bp")
    data = {"name": "cifar10", "sha256": DATASETS.get("cifar10").sha256}
    path = made_up(config, 50.0, "quick", "tiny", data=data)
    target = Store(out / "quick").path("tiny", config)
    target.parent.mkdir()
    path.rename(target)
    status, lines = bring(out, capsys)
    assert status == 1 and "its first losses cannot be checked: no files of cifar10" in lines[0]
    assert not list(Path().iterdir())


def test_another_record_of_a_run_is_a_conflict_and_a_failed_one_gives_way(out, capsys):
    assert bring(out, capsys)[0] == 0
    mine = paths("results")
    kept = mine[0].read_bytes()
    rewrite(paths(out)[0], seconds=1.0)
    fail(mine[1])
    status, lines = bring(out, capsys)
    assert status == 1 and f"conflicts with {mine[0]}" in lines[0]
    assert lines[1:] == ["records   imported: 1, already here: 2, refused: 1"]
    assert mine[0].read_bytes() == kept and mine[1].read_bytes() == paths(out)[1].read_bytes()


def test_where_all_are_refused_nothing_is_written(out, capsys):
    for path in paths(out):
        edited(path)
    status, lines = bring(out, capsys)
    assert status == 1 and len(lines) == 5 and lines[-1] == "records   imported: none, already here: none, refused: 4"
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere", "no such folder or file"), ("empty", "no records found"), ("text.tar.gz", "cannot be unpacked"),
     ("text.zip", "cannot be unpacked"), ("cut.tar.gz", "cannot be unpacked"), ("text.json", "cannot be unpacked")],
)  # fmt: skip
def test_what_holds_no_records_is_bad_input(name, words, out, tmp_path, capsys):
    source = tmp_path / name
    if name == "empty":
        source.mkdir()
    elif name == "cut.tar.gz":
        whole = Path(shutil.make_archive(tmp_path / "whole", "gztar", tmp_path, "out")).read_bytes()
        source.write_bytes(whole[: len(whole) // 2])
    elif name != "nowhere":
        source.write_text("no archive")
    assert main(["import", str(source)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {source}: {words}") and printed.err.count("\n") == 1 and not printed.out
    assert "SCALE/records" in printed.err and not list(Path().iterdir())


def test_several_results_folders_are_not_one(out, tmp_path, capsys):
    both = tmp_path / "both"
    for name in "ab":
        shutil.copytree(out, both / name)
    status, said = main(["import", str(both)]), capsys.readouterr()
    assert status == 2 and "contains several results folders (a, b); import one after the other" in said.err


def test_a_sweep_at_work_is_left_alone(out, capsys):
    config = parse(Config, json.loads(paths(out)[0].read_text())["config"], "")
    with Claims(Store(Path("results/quick"))) as claims:
        assert claims.take(config) and main(["import", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"process {os.getpid()}" in error and "is training this run" in error and not paths("results")


# What other devices draw


DROPOUT = Config(model="cnn", dataset="digits", rule="bp", model_options={"width": 2, "dropout": 0.4}, lr=0.03)
MASKED = replace(DROPOUT, model="vit", model_options={"width": 16, "depth": 1, "heads": 2}, rule="ldfa", rank="2")
PLAIN = replace(DROPOUT, model_options={"width": 2, "dropout": 0.0})


@pytest.mark.parametrize("config", [DROPOUT, MASKED, replace(PLAIN, rule="brsf")], ids=["cnn", "vit", "brsf"])
def test_other_draws_of_dropout_fit_and_another_learning_rate_does_not(config):
    draws = [train(config, draws=f"elsewhere {n}", steps=STEPS).first_losses for n in range(5)]
    assert len({tuple(losses) for losses in draws}) == 5
    assert not any(disagreement(config, losses) for losses in draws)
    other = train(replace(config, lr=1.0), draws="elsewhere", steps=STEPS).first_losses
    assert re.fullmatch(r"loss of step [23] is .* over 5 draws", disagreement(config, other))


def test_a_network_that_draws_nothing_is_held_to_rounding():
    first, *others = train(PLAIN).first_losses
    assert disagreement(PLAIN, [first, *others]) == ""
    assert disagreement(PLAIN, [first * 1.001, *others]).startswith("loss of step 1 is")


def test_a_run_stopped_after_some_steps_is_the_start_of_the_whole_one():
    config = replace(DROPOUT, batch_size=512, epochs=3, rule="ldfa-track", rule_options={"resets": 2}, gamma=0.5)
    whole = train(config)
    assert len(whole.first_losses) == 9 and whole.status == "ok"
    assert train(config, steps=7).first_losses == whole.first_losses[:7]
    assert train(config, steps=7).status == "paused"


def test_every_precision_has_a_tolerance():
    assert set(get_args(get_type_hints(Config)["precision"])) <= TOLERANCES.keys()


# Tuned settings and DVC


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small copy of the repository, with one run at scale gpu and two trials before it, on the digits."""
    for name in (".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("bench", "replication"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.sweeps.protocols.HERE", tmp_path / "bench/sweeps/protocols")
    monkeypatch.setattr("bench.sweeps.protocols.COMMITTED", tmp_path / "results")
    monkeypatch.setenv("BENCH_EXPERIMENTS", "replication/experiments")
    for module in ("bench.sweeps.tune", "bench.sweeps.ingest", "bench.commands.tune"):
        monkeypatch.setattr(f"{module}.ROUNDS", (1, 1))
    settings = {"augment": [], "epochs": 3}
    change("bench/sweeps/protocols/mlp.yaml", gpu={"datasets": ["digits"], "settings": settings})
    change("replication/experiments/mlp-all-layers.yaml", scales={"gpu": {"seeds": 2, "claims": [RUN], "runs": []}})
    change("dvc.yaml", stages={"tune": {"foreach": {"mlp": "--rule bp"}}})
    return tmp_path


RUN = {"rule": "bp", "epochs": 1}


def change(path, **changes):
    def merged(old, new):
        both = {key: merged(old[key], new[key]) for key in old.keys() & new.keys() if isinstance(new[key], dict)}
        return old | new | both

    path = Path(path)
    path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), changes), sort_keys=False))


@pytest.fixture
def tuned(checkout):
    """The tuned settings as the other machine has them, where they go; its results are in `out`."""

    def find(config):
        return Store(Path("out/gpu")).find(config, ["tune-mlp"])

    for number in range(2):
        make("tune-mlp", "gpu", trials("mlp", "gpu", "bp", find)[number], Path("out"))
    choose("mlp", "gpu", "bp", find, Path("out"))
    make("mlp-all-layers", "gpu", experiment("mlp-all-layers").configs("gpu", results=Path("out")), Path("out"))
    return Path("results/gpu/tuned/mlp.json"), Path("out/gpu/tuned/mlp.json").read_text()


def test_dvc_takes_what_is_complete_and_tuned(tuned, capsys):
    last = max(Path("out/gpu/records/mlp-all-layers").iterdir())
    aside = last.rename("aside")
    targets = ["tune@mlp", "sweep-after@mlp-all-layers"]
    assert bring("out", capsys) == (
        0,
        [
            "tuned     mlp at scale gpu, bp: chosen",
            "dvc       tune@mlp: recorded",
            "dvc       sweep-after@mlp-all-layers: not recorded: 1 of 2 runs have no record",
            "records   imported: 3, already here: none, refused: none",
        ],
    )
    assert tuned[0].read_text() == tuned[1]
    assert list(status(targets)) == targets[1:]
    aside.rename(last)
    assert bring("out", capsys)[0] == 0
    assert status(targets) == {}


def test_settings_are_chosen_from_all_trials_and_not_over_those_of_others(tuned, capsys):
    shutil.rmtree(".dvc")
    path, content = tuned
    others = json.loads(content)
    others["bp"]["trials"][0]["accuracy"] += 1
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(others))
    assert "bp: not chosen: the settings here come from other trials" in bring("out", capsys)[1][0]
    assert json.loads(path.read_text()) == others
    path.unlink()
    for folder in ("out", "results"):
        Store(Path(folder) / "gpu").path("tune-mlp", trials("mlp", "gpu", "bp")[0][0]).unlink()
    assert "bp: not chosen: 0 of 2 trials are recorded" in bring("out", capsys)[1][0]
    assert not path.exists()


def test_without_dvc_it_says_what_to_do(out, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "dvc.repo", None)
    Path(".dvc").mkdir()
    status, lines = bring(out, capsys)
    assert status == 0 and lines[0].startswith("dvc       not installed;") and len(paths("results")) == 4


def status(targets):
    with Repo() as repo:
        return repo.status(targets)
