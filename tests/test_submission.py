"""What `bench submit-check` asks of runs that are to join the standard table."""

import json
import shutil

import pandas as pd
import pytest

from bench.cli import main
from bench.errors import UsageError
from bench.records.store import Store
from bench.sweeps import submission
from bench.sweeps.experiments import alternative, experiment
from bench.sweeps.tune import choose, trials
from replication.results import results
from replication.survey import write_survey

HELD_OUT = 129
"""Images of the validation split of the digits."""
TEXT = """
title: A rule of another package
model: mlp
scales:
  quick: {seeds: 5, runs: [{rule: bp}, {rule: usf}]}
"""


@pytest.fixture
def submitted(tmp_path, monkeypatch, made_up):
    """A complete submission: tuned by the standard budget, five seeds, bp beside it."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "mine.yaml").write_text(TEXT)
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(folder))
    monkeypatch.setattr(submission, "differs", lambda record: record["data"]["sha256"] != {"train": "a"})
    results.cache_clear()
    store = Store(tmp_path / "quick")

    def find(config):
        return store.find(config, ["tune-mlp"])

    for number in (0, 1):
        for n, config in enumerate(trials("mlp", "quick", "usf", find, "digits")[number]):
            made_up(config, 100 * (50 + n) / HELD_OUT, scale="quick", experiment="tune-mlp")
    choose("mlp", "quick", "usf", find, tmp_path, "digits")
    clean = {"digest": "0" * 16, "commit": "0" * 12, "dirty": False, "plugins": []}
    for config in experiment("mine").configs("quick", alternative(0), tmp_path):
        made_up(config, 90.0 + config.seed, scale="quick", experiment="mine", source=clean)
    return tmp_path


def problems(folder):
    return submission.check(folder)[1]


def test_a_complete_submission_has_its_rows_and_digests(submitted, capsys):
    assert main(["submit-check", str(submitted)]) == 0
    said = capsys.readouterr().out
    settings, found = submission.check(submitted)
    assert found == [] and [setting.runs.config.rule for setting in settings] == ["bp", "usf"]
    assert "problems: none" in said and all(setting.runs.digest in said for setting in settings)
    assert "92.00 [90.04, 93.96]" in said


def test_what_keeps_runs_out_is_named(submitted, made_up, capsys):
    (first, *_) = sorted((submitted / "quick/records/mine").glob("usf-*"))
    first.unlink()
    assert main(["submit-check", str(submitted)]) == 1
    assert "mine at scale quick, usf width=128: 1 of 5 runs have no record" in capsys.readouterr().out
    next((submitted / "quick/records/tune-mlp").glob("usf-*")).unlink()
    assert any("of its tuning have no record" in problem for problem in problems(submitted))
    shutil.rmtree(submitted / "quick/tuned")
    assert any("usf width=128: not tuned; expected: bench tune --model mlp" in line for line in problems(submitted))
    (submitted / "experiments/mine.yaml").write_text(TEXT.replace("{rule: usf}", "{rule: usf, lr: 0.1}"))
    for config in experiment("mine").configs("quick", alternative(0), submitted):
        dirty = {"digest": "0" * 16, "commit": "0" * 12, "dirty": True, "plugins": []}
        made_up(config, 90.0, scale="quick", experiment="mine", source=dirty)
    found = problems(submitted)
    assert any("usf width=128: lr set by hand" in problem for problem in found)
    assert any("differs from its commit (000000000000+)" in problem for problem in found)


def test_runs_on_other_data_are_seen(submitted, made_up):
    config = experiment("mine").configs("quick", alternative(0), submitted)[0]
    data = {"name": "digits", "sha256": {"train": "b"}}
    made_up(config, 90.0, scale="quick", experiment="mine", data=data)
    assert any("1 runs were trained on other data" in problem for problem in problems(submitted))


def test_settings_that_the_trials_did_not_choose_are_seen(submitted):
    path = submitted / "quick/tuned/mlp.json"
    content = json.loads(path.read_text())
    trial = content["usf"]["trials"][0]
    content["usf"]["chosen"] = {name: trial[name] for name in content["usf"]["chosen"]}
    path.write_text(json.dumps(content))
    assert any("are not those that its trials choose" in problem for problem in problems(submitted))


def test_bad_folders(submitted, tmp_path, capsys):
    assert main(["submit-check", str(tmp_path / "none")]) == 2
    assert "no experiment is recorded there" in capsys.readouterr().err
    (submitted / "quick/records/mine").rename(submitted / "quick/records/other")
    assert any("other at scale quick: no such experiment" in problem for problem in problems(submitted))


def test_table_figure_and_row_come_without_an_edit_of_the_repository(submitted):
    written = write_survey("mine", "quick", submitted)
    assert all(path.is_relative_to(submitted) and path.stat().st_size for path in written)
    table = (submitted / "quick/tables/mine.md").read_text()
    assert "| `usf` | 5 of 5 | 92.00 [90.04, 93.96] | +0.00 [+0.00, +0.00] | matches |" in table
    board = pd.read_csv(submitted / "quick/leaderboard.csv").set_index("rule")
    digests = {setting.runs.config.rule: setting.runs.digest for setting in submission.check(submitted)[0]}
    assert dict(board["records"]) == digests and set(digests) == {"bp", "usf"}
    assert board["setting"].isna().all() and board["verdict"]["bp"] == "baseline"  # rates tuned there are no departure
    with pytest.raises(UsageError, match="no valid records at scale quick"):
        write_survey("mine", "quick", submitted / "elsewhere")
