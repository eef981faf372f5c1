"""The numbers to cite: each setting once, by valid records alone, each row with the digest of what is behind it."""

import hashlib
import io
import json
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bench.models import MODELS
from bench.records.store import Store, seal
from bench.stats import compare, mean_interval
from bench.sweeps.experiments import experiment
from replication.latex import latex_table
from replication.leaderboard import leaderboard
from replication.results import results, results_of
from replication.tables import csv

ROOT = Path(__file__).parent.parent
FIRST = """
title: Three rules over two seeds
model: mlp
scales:
  cpu: {seeds: 2, runs: [{rule: bp}, {rule: [fa, kp]}, {rule: ldfa, rank: "10"}]}
  paper: {seeds: 1, runs: [{rule: bp}]}
"""
SECOND = """
title: More seeds, and other settings
model: mlp
reuses: [first]
scales:
  cpu:
    seeds: 5
    runs:
      - {rule: [bp, kp]}
      - {rule: [bp, fa], model_options: {width: 64}}
      - {rule: ldfa, rank: "10", feedback_rate: 0.5}
"""
THIRD = """
title: One more seed, measured less often
model: mlp
scales:
  cpu: {seeds: 6, runs: [{rule: bp, test_every: 2, measure_dimension: false}]}
"""
LINEAR = """
title: Linear
model: linear
scales:
  cpu: {seeds: 2, runs: [{rule: [bp, fa], dataset: "linear-teacher:8"}]}
"""
ACCURACY = {"bp": 60.0, "fa": 50.0, "kp": 60.5, "ldfa": 58.0}
NOISE = (-0.2, 0.1, 0.0, 0.3, -0.1)
KEY = ["rule", "rank", "variant", "setting"]


def runs(name):
    return experiment(name).configs("cpu", choose=lambda names: names if isinstance(names, str) else names[0])


@pytest.fixture
def recorded(tmp_path, monkeypatch, made_up):
    """The records by rule, setting and seed; those of the first two seeds in the first experiment."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name, text in {"first": FIRST, "second": SECOND}.items():
        (folder / f"{name}.yaml").write_text(text)
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(folder))
    monkeypatch.setattr("bench.sweeps.experiments.SHIPPED", "no_such_package")
    results.cache_clear()
    paths = {}
    for name in ("first", "second"):
        for config in runs(name):
            if config.digest not in paths:
                level = ACCURACY[config.rule] - 5 * bool(config.model_options)
                accuracy = level + NOISE[config.seed] * (1 + len(config.rule))
                paths[config.digest] = made_up(config, accuracy, experiment=name)
    yield {(c.setting, c.feedback_rate == 0.5, c.seed): paths[c.digest] for n in ("first", "second") for c in runs(n)}
    results.cache_clear()


def board(folder):
    results.cache_clear()
    table = pd.read_csv(io.StringIO(csv(leaderboard(folder))), dtype=dict.fromkeys([*KEY, "verdict"], str))
    table = table.fillna(dict.fromkeys([*KEY, "verdict"], ""))
    assert not table.duplicated(["scale", "task", "dataset", *KEY]).any()
    return table.set_index(KEY)


def test_a_setting_is_one_row_over_all_experiments(recorded, tmp_path):
    found = board(tmp_path)
    wide = "model_options.width=64"
    assert list(found.index) == [
        ("kp", "", "", ""),
        ("bp", "", "", ""),
        ("ldfa", "10", "", "feedback_rate=0.5"),
        ("ldfa", "10", "", ""),
        ("fa", "", "", ""),
        ("bp", "", wide, ""),
        ("fa", "", wide, ""),
    ]
    assert list(found["n"]) == list(found["n_ok"]) == list(found["n_planned"]) == [5, 5, 5, 2, 2, 5, 5]
    bp = {seed: 60 + 3 * noise for seed, noise in enumerate(NOISE)}
    kp = {seed: 60.5 + 3 * noise for seed, noise in enumerate(NOISE)}
    row, level, versus = found.loc["kp", "", "", ""], mean_interval(kp.values()), compare(kp, bp)
    assert list(row[["mean", "mean_low", "mean_high"]]) == pytest.approx([level.estimate, level.low, level.high], 1e-5)
    assert (row["minus_bp"], row["n_paired"], row["verdict"]) == (pytest.approx(0.5), 5, str(versus.verdict))
    assert list(found["level"]) == ["full", "full", "reduced", "full", "full", "reduced", "reduced"]
    assert (row["task"], row["dataset"], row["measure"]) == ("mlp/1", "cifar10", "accuracy (%)")
    assert set(found.loc["ldfa"]["rule_version"]) == {2} and row["rule_version"] == 1
    assert (row["training_flops"], row["seconds"], row["feedback_parameters"]) == (1000 * 30 * 391, 62, 5)
    assert (row["reads_weights"], row["reads_targets"]) == ("no", True)
    seals = sorted(json.loads(recorded["kp", False, s].read_text())["seal"] for s in range(5))
    assert row["records"] == hashlib.sha256("\n".join(seals).encode()).hexdigest()[:16]


def test_the_baseline_has_the_same_network_and_rates_of_its_own(recorded, tmp_path):
    found = board(tmp_path)
    wide = "model_options.width=64"
    assert set(found[found["verdict"] == "baseline"].index) == {("bp", "", "", ""), ("bp", "", wide, "")}
    assert found.loc["fa", "", wide, ""]["minus_bp"] == pytest.approx(-10)
    assert found.loc["ldfa", "10", "", "feedback_rate=0.5"]["n_paired"] == 5
    assert found.loc["fa", "", "", ""]["verdict"] == "too few seeds"


def test_a_deleted_record_changes_its_row_alone(recorded, tmp_path):
    before = board(tmp_path)
    recorded["kp", False, 4].unlink()
    after = board(tmp_path)
    changed = before["records"] != after["records"].reindex(before.index)
    assert list(before.index[changed]) == [("kp", "", "", "")]
    row = after.loc["kp", "", "", ""]
    assert (row["n"], row["n_planned"], row["n_paired"], row["verdict"]) == (4, 5, 4, "too few seeds")


def rewrite(path, **changes):
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(record | {"seal": seal(record)}))


def test_a_stale_or_edited_record_never_counts(recorded, tmp_path, monkeypatch):
    rewrite(recorded["bp", False, 0], task="mlp/0")
    edited = recorded["bp", False, 1]
    edited.write_text(edited.read_text().replace('"accuracy": 60', '"accuracy": 99'))
    row = board(tmp_path).loc["bp", "", "", ""]
    assert row["n"] == 3 and row["mean"] == pytest.approx(60 + 3 * sum(NOISE[2:]) / 3)
    monkeypatch.setattr(MODELS.get("mlp"), "version", 2)
    results.cache_clear()
    assert leaderboard(tmp_path).empty


def test_a_diverged_run_counts_as_chance_and_other_data_are_not_paired(recorded, tmp_path):
    rewrite(recorded["kp", False, 0], status="diverged", final={})
    rewrite(recorded["kp", False, 1], data={"name": "cifar10", "sha256": {"train": "b"}})
    row = board(tmp_path).loc["kp", "", "", ""]
    assert (row["n"], row["n_ok"], row["n_paired"]) == (5, 4, 4)
    assert row["mean"] == pytest.approx((10 + 4 * 60.5 + 3 * sum(NOISE[1:])) / 5)


def test_how_often_a_run_was_measured_is_no_setting(recorded, tmp_path, made_up):
    folder, bp = tmp_path / "experiments", recorded["bp", False, 0]
    (folder / "third.yaml").write_text(THIRD)
    results.cache_clear()
    for config in runs("third"):
        made_up(config, 80.0, experiment="third")
    found = board(tmp_path)
    assert len(found.loc["bp"]) == 2 and found.loc["bp", "", "", ""]["n"] == 6
    values = [60 + 3 * noise for noise in NOISE] + [80.0]
    assert found.loc["bp", "", "", ""]["mean"] == pytest.approx(sum(values) / 6, 1e-5)
    bp.unlink()
    assert board(tmp_path).loc["bp", "", "", ""]["mean"] == pytest.approx((sum(values[1:]) + 80) / 6, 1e-5)


def test_seconds_are_of_one_device(recorded, tmp_path):
    for seed in (0, 1):
        rewrite(recorded["kp", False, seed], device={"type": "cpu", "name": "another", "threads": 1}, seconds=1.0)
    row, here = (board(tmp_path).loc[rule, "", "", ""] for rule in ("kp", "bp"))
    assert (row["seconds"], row["device"]) == (63, here["device"])
    rewrite(recorded["kp", False, 2], device={"type": "cpu", "name": "another", "threads": 1}, seconds=2.0)
    row = board(tmp_path).loc["kp", "", "", ""]
    assert (row["seconds"], row["device"]) == (1.0, "another")


def test_a_regression_is_ranked_by_loss_and_not_judged(tmp_path, monkeypatch, made_up):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/linear.yaml").write_text(LINEAR)
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path / "experiments"))
    for config in runs("linear"):
        left = {"bp": 1.0, "fa": 4.0}[config.rule] + config.seed
        made_up(config, 0.0, experiment="linear", losses=(50.0, left))
    found = board(tmp_path)
    assert list(found["mean"]) == [3.0, 9.0]
    assert found.loc["fa", "", "", ""]["minus_bp"] == 6.0
    assert list(found["verdict"]) == ["baseline", ""]


def test_latex_of_a_table():
    table = pd.DataFrame({"a_b (%)": ["`x_1`", "**50%** & -1.5 [+2, 3e-05]"], "c": ["x" * 50 + "<br>±", "b-2"]})
    lines = latex_table(table).splitlines()
    assert lines[1] == r"\begin{tabular}{lp{0.75\linewidth}}"
    assert lines[3] == r"a\_b (\%) & c \\"
    assert lines[5] == r"\texttt{x\_1} & " + "x" * 50 + r"\newline $\pm$ \\"
    assert lines[6] == r"\textbf{50\%} \& $-$1.5 [$+$2, 3e-05] & b-2 \\"
    assert lines[2], lines[-2:] == (r"\toprule", [r"\bottomrule", r"\end{tabular}"])


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= set(citation)
    (paper,) = citation["references"]
    assert {"type": "other", "value": "arXiv:2502.20580"}.items() <= paper["identifiers"][0].items()
    assert [author["family-names"] for author in paper["authors"]] == ["Hanut", "Kadmon"]


def test_the_records_of_an_experiment_are_read_once(recorded, tmp_path, monkeypatch):
    find, read = Store.find, []
    monkeypatch.setattr(Store, "find", lambda store, config, places: read.append(config) or find(store, config, places))
    assert results_of(experiment("second"), "cpu", tmp_path).recorded == len(read) == len(runs("second"))
