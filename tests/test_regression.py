"""The comparison with the committed reference: it passes what the seeds explain, and nothing else."""

import pandas as pd
import pytest
from scipy import stats

from bench.errors import UsageError
from bench.experiments import experiment
from bench.records import Store
from bench.sweep import run
from replication import regression
from replication.results import results


def frame(*rows):
    return pd.DataFrame(rows, columns=["experiment", "sd", "n", "resolution"])


def test_tolerance_is_the_prediction_half_width_of_another_mean():
    (found,) = regression.tolerance(frame(("a", 2.0, 5, 0.2)))
    assert found == pytest.approx(stats.t.ppf(0.9995, 4) * 2.0 * (1 / 5 + 1 / 5) ** 0.5)


def test_tolerance_is_no_finer_than_one_test_example():
    assert list(regression.tolerance(frame(("a", 0.0, 5, 0.2)))) == [0.2]


def test_few_seeds_share_the_spread_of_their_experiment():
    two = regression.tolerance(frame(("a", 3.0, 2, 0.2), ("a", 1.0, 2, 0.2), ("b", 9.0, 2, 0.2)))
    assert two[0] == two[1] == pytest.approx(stats.t.ppf(0.9995, 2) * 5**0.5)
    assert two[2] == pytest.approx(stats.t.ppf(0.9995, 1) * 9.0)


def test_fresh_records_against_their_reference(tmp_path, monkeypatch, capsys):
    (tmp_path / "results" / "quick").mkdir(parents=True)
    (tmp_path / "tiny.yaml").write_text(
        "{title: tiny, model: mlp, scales: {quick: {seeds: 2, runs: [{rule: [bp, fa], epochs: 1}]}}}"
    )
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    *first, last = experiment("tiny").configs("quick")
    for config in first:
        run(config, Store(folder / "quick"), "tiny", "quick", "cpu")
    with pytest.raises(UsageError, match=r"1 of 2 runs of 'fa' are missing; run `bench sweep tiny"):
        regression.measured(folder)
    run(last, Store(folder / "quick"), "tiny", "quick", "cpu")
    results.cache_clear()

    def status():
        with pytest.raises(SystemExit) as ended:
            regression.command(folder)
        return ended.value.code

    regression.command(folder, write=True)
    assert status() == 0

    reference = pd.read_csv(regression.REFERENCE)
    assert list(reference["mean"]) == pytest.approx(list(regression.measured(folder)["mean"]))
    changed = reference.assign(mean=reference["mean"] + [0, 1.01 * reference["tolerance"][1]])
    changed.to_csv(regression.REFERENCE, index=False)
    assert status() == 1
    assert "1 of 2 settings" in capsys.readouterr().out.splitlines()[-1]

    reference.assign(setting=["bp", "kp"]).to_csv(regression.REFERENCE, index=False)
    assert status() == 1
    printed = capsys.readouterr().out
    assert "gone" in printed and "new" in printed
