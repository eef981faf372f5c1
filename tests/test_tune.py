"""The search for settings: two rounds, the second around the best of the first, the same budget for every rule."""

import json
import math
import multiprocessing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bench.cli import main
from bench.errors import UsageError
from bench.files import write_text
from bench.records.store import Store
from bench.sweeps import protocols
from bench.sweeps.protocols import configure, protocol, searches, tuned
from bench.sweeps.tune import ROUNDS, WIDTH, choice, choose, trials
from replication import tuning

TUNE = ["tune", "--model", "mlp", "--scale", "quick", "--rule", "bp", "--workers", "1"]


def ended(accuracy, loss=1.0, status="ok"):
    return {"status": status, "final": {"accuracy": accuracy, "loss": loss}}


def trial(**changes):
    return {"lr": 0.5, "weight_decay": 0.0, "accuracy": 50.0} | changes


def rounds(records, rule="ldfa", scale="quick"):
    """The rounds of a search of which the first gave `records`, and every later trial an accuracy of 50."""
    first = {config.digest: record for config, record in zip(trials("mlp", scale, rule)[0], records, strict=True)}
    return trials("mlp", scale, rule, lambda config: first.get(config.digest, ended(50.0)))


def logs(configs):
    return np.log([[config.lr, config.weight_decay, config.feedback_rate] for config in configs])


def test_the_first_round_is_the_same_for_every_rule_and_fills_the_ranges():
    (bp,), (ldfa,) = trials("mlp", "quick", "bp"), trials("mlp", "quick", "ldfa")
    assert len(bp) == len(ldfa) == ROUNDS[0]
    assert [(c.lr, c.weight_decay) for c in bp] == [(c.lr, c.weight_decay) for c in ldfa]
    assert (
        {c.feedback_rate for c in bp} == {1.0} and {c.rank for c in bp} == {None} and {c.rank for c in ldfa} == {"10"}
    )
    search = protocol("mlp", "quick").tune
    low, high = np.log([search.lr, search.weight_decay, search.feedback_rate]).T
    share = (logs(ldfa) - low) / (high - low)
    assert share.min() > -0.01 and share.max() < 1.01
    assert all(len(set((column * 4).astype(int))) == 4 for column in share.T)


@pytest.mark.parametrize("best", range(3))
def test_the_second_round_lies_around_the_best_of_the_first(best):
    first, second = rounds([ended(90.0 if n == best else 40.0 + n) for n in range(ROUNDS[0])])
    assert len(second) == ROUNDS[1]
    search = protocol("mlp", "quick").tune
    spans = np.ptp(np.log([search.lr, search.weight_decay, search.feedback_rate]), axis=1)
    offsets = (logs(second) - logs(first)[best]) / spans
    assert (abs(offsets) < WIDTH / 2 + 0.02).all() and (np.ptp(offsets, axis=0) > WIDTH / 2).all()
    assert (offsets.min(axis=0) < 0).all() and (offsets.max(axis=0) > 0).all()
    again = rounds([ended(90.0 if n == best else 40.0 + n) for n in range(ROUNDS[0])])
    assert again == [first, second]


def test_the_second_round_may_leave_the_ranges():
    (first,) = trials("mlp", "quick", "ldfa")
    fastest = int(np.argmax([config.lr for config in first]))
    _, second = rounds([ended(90.0 if n == fastest else 40.0) for n in range(ROUNDS[0])])
    assert max(config.lr for config in second) > protocol("mlp", "quick").tune.lr[1]


@pytest.mark.parametrize("last", [None, ended(0.0, status="failed")])
def test_the_second_round_waits_for_the_whole_first(last):
    assert len(rounds([ended(50.0)] * (ROUNDS[0] - 1) + [last])) == 1


def test_equal_accuracies_are_told_apart_by_the_loss():
    def centre(losses):
        first, second = rounds([ended(98.0, loss) for loss in losses])
        return int(np.argmin(abs(logs(first) - logs(second).mean(axis=0)).max(axis=1)))

    assert [centre([1.0 - 0.5 * (n == best) for n in range(ROUNDS[0])]) for best in (2, 7)] == [2, 7]


def test_where_all_diverge_the_search_goes_on_at_lower_rates_and_then_says_so():
    diverged = ended(math.nan, math.nan, "diverged")
    first, second = rounds([diverged] * ROUNDS[0])
    assert max(c.lr for c in second) < np.median([c.lr for c in first])
    with pytest.raises(UsageError, match="every trial of ldfa diverged, so nothing is chosen"):
        choice("mlp", "quick", "ldfa", lambda config: diverged)


def test_the_best_of_both_rounds_is_chosen(tmp_path):
    _, second = rounds([ended(50.0)] * ROUNDS[0])
    found = choose("mlp", "quick", "ldfa", lambda c: ended(60.0 if c == second[3] else 50.0), tmp_path)
    assert found.chosen == {name: getattr(second[3], name) for name in ("lr", "weight_decay", "feedback_rate")}
    assert [trial["round"] for trial in found.trials] == [1] * ROUNDS[0] + [2] * ROUNDS[1]
    assert searches("mlp", "quick", tmp_path) == {"ldfa": found}
    assert configure("mlp", "ldfa", "quick", results=tmp_path).lr == second[3].lr


# The schedule of a trial


@pytest.mark.parametrize("model", ["mlp", "cnn", "vit", "retina"])
def test_a_trial_is_a_third_of_a_run_on_its_schedule(model):
    settings = protocol(model, "gpu").settings
    trial = trials(model, "gpu", "bp", dataset="digits")[0][0]
    run = configure(model, "bp", "gpu", dataset="digits")
    assert trial.epochs == math.ceil(run.epochs / 3) and trial.split == "validation"
    assert trial.gamma**trial.epochs == pytest.approx(run.gamma**run.epochs, rel=0.05)
    assert trial.warmup == (max(1, round(settings["warmup"] / 3)) if "warmup" in settings else 0)
    assert (trial.measure_every, trial.test_every, trial.measure_dimension) == (0, 0, False)
    own = {"epochs", "gamma", "warmup", "split", "lr", "weight_decay", "feedback_rate"}
    own |= {"measure_every", "test_every", "measure_dimension"}
    assert {key: v for key, v in asdict(trial).items() if key not in own} == {
        key: v for key, v in asdict(run).items() if key not in own
    }


# Where the settings lie


def test_settings_of_a_results_folder_stand_above_the_committed_ones(tmp_path):
    committed = tuned("mlp", "quick")
    assert {"bp", "ldfa"} <= committed.keys()
    write(tmp_path, {"bp": {"chosen": {"lr": 0.5, "weight_decay": 0.0}, "trials": [trial()]}})
    assert tuned("mlp", "quick", tmp_path) == committed | {"bp": {"lr": 0.5, "weight_decay": 0.0}}
    assert configure("mlp", "bp", "quick", results=tmp_path).lr == 0.5
    assert configure("mlp", "bp", "quick").lr == committed["bp"]["lr"]
    assert configure("mlp", "bp", "quick", results=None).lr == protocol("mlp", "quick").settings["lr"]


def write(results, content):
    path = results / "quick/tuned/mlp.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"bp": {"chosen"', ["not JSON"]),
        ([1], ["expected: rules"]),
        ({"bp": {"chosen": {"lr": 0.1}}}, ["bp", "'trials' is missing"]),
        ({"bp": {"chosen": {"lr": "fast"}, "trials": []}}, ["bp", "chosen.lr", "'fast'"]),
        ({"bp": {"chosen": {"lr": -0.1}, "trials": []}}, ["bp", "lr: -0.1"]),
        ({"bp": {"chosen": {"lrr": 0.1}, "trials": []}}, ["bp", "'lrr'", "did you mean 'lr'?"]),
        ({"bp": {"chosen": {"lr": 0.1}, "trials": [{"lr": 0.1}]}}, ["bp", "trial 1", "'accuracy' is missing"]),
        ({"bp": {"chosen": {"lr": 0.1}, "trials": [trial()]}}, ["bp", "chosen", "not one of its trials"]),
    ],
)
def test_a_broken_file_of_settings_is_named_in_one_line(content, words, tmp_path, capsys):
    path = write(tmp_path, content)
    before = path.read_bytes()
    assert main(["run", "--model", "mlp", "--rule", "bp", "--scale", "quick", "--results", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(word in err for word in [str(path), *words]), err
    assert path.read_bytes() == before and not list(Store(tmp_path / "quick").paths())


@pytest.mark.parametrize("range_", [[1.0e-3], [1.0e-2, 1.0e-3], [0.0, 1.0]])
def test_a_range_that_is_none_is_named_in_one_line(range_, tmp_path, monkeypatch):
    content = yaml.safe_load((protocols.HERE / "mlp.yaml").read_text())
    content["quick"]["tune"]["lr"] = range_
    (tmp_path / "mlp.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr("bench.sweeps.protocols.HERE", tmp_path)
    with pytest.raises(UsageError, match=r"^mlp.yaml: quick: tune: lr: .* is not a range"):
        trials("mlp", "quick", "bp")


# The command


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Searches of two trials and one, in forked processes; the results folder."""
    for module in ("bench.sweeps.tune", "bench.commands.tune"):
        monkeypatch.setattr(f"{module}.ROUNDS", (2, 1))
    monkeypatch.setattr("bench.sweeps.executors.local.CONTEXT", multiprocessing.get_context("fork"))
    return tmp_path


def records(results):
    return {path.name: path.read_bytes() for path in Store(results / "quick").paths("tune-mlp")}


def test_tune_keeps_its_trials_and_choice_below_the_results_and_resumes(small, capsys):
    package = {path: path.stat().st_mtime_ns for path in Path(protocols.HERE).iterdir()}
    tune = [*TUNE, "--rule", "bp", "--results", str(small)]
    assert main(tune) == 0
    out = capsys.readouterr().out
    assert "round 1 of 2: 2 of 2 trials missing" in out and "round 2 of 2: 1 of 1 trials missing" in out
    assert out.count("chosen") == 1
    kept = json.loads((small / "quick/tuned/mlp.json").read_text())["bp"]
    assert kept["chosen"].items() <= max(kept["trials"], key=lambda trial: trial["accuracy"]).items()
    assert {path: path.stat().st_mtime_ns for path in Path(protocols.HERE).iterdir()} == package

    before = records(small)
    assert len(before) == 3
    assert main(["verify", "--results", str(small), "--no-golden"]) == 0
    path = small / "quick/tuned/mlp.json"
    worst = min(kept["trials"], key=lambda trial: trial["accuracy"])
    chosen = {name: worst[name] for name in kept["chosen"]}
    path.write_text(json.dumps({"bp": {"chosen": chosen, "trials": kept["trials"]}}))
    capsys.readouterr()
    assert main(["verify", "--results", str(small), "--no-golden"]) == 1
    assert "mlp.json: bp: its settings are not those of the best trial" in capsys.readouterr().out
    assert main(tune) == 0 and json.loads(path.read_text())["bp"] == kept
    capsys.readouterr()
    assert main(tune) == 0 and "missing" not in capsys.readouterr().out and records(small) == before
    lost = Store(small / "quick").path("tune-mlp", trials("mlp", "quick", "bp")[0][1])
    lost.unlink()
    assert main(tune) == 0
    out = capsys.readouterr().out
    assert "round 1 of 2: 1 of 2 trials missing" in out and "round 2" not in out
    assert records(small).keys() == before.keys()
    assert json.loads((small / "quick/tuned/mlp.json").read_text())["bp"] == kept


def test_verify_wants_the_trials_behind_tuned_settings_but_for_those_shipped_at_scale_quick(tmp_path, capsys):
    shipped = (protocols.COMMITTED / "quick/tuned/mlp.json").read_text()
    for scale, problems in (("quick", 0), ("cpu", len(json.loads(shipped)))):
        (tmp_path / scale / "records").mkdir(parents=True)
        write_text(tmp_path / scale / "tuned/mlp.json", shipped)
        assert main(["verify", "--results", str(tmp_path), "--no-golden"]) == bool(problems)
        assert capsys.readouterr().out.count("of its trials have no record of their accuracy") == problems


def test_a_budget_below_one_trial_is_refused_and_a_longer_one_stops_in_between(small, capsys, monkeypatch):
    tune = [*TUNE, "--results", str(small)]
    for budget in ("0", "0.01"):
        assert main([*tune, "--budget", budget]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and f"--budget {budget}: too short for one run" in err
    assert not list(small.iterdir())
    monkeypatch.setattr("bench.commands.tune.measured", lambda config, device: 0.0)
    assert main([*tune, "--budget", "0"]) == 0
    assert capsys.readouterr().out.endswith("budget reached, 3 trials missing, so nothing is chosen yet\n")
    assert not (small / "quick/tuned").exists()


def test_tune_chooses_nothing_where_a_trial_failed(small, capsys, monkeypatch):
    def refuse(*arguments, **options):
        raise UsageError("the data are gone")

    monkeypatch.setattr("bench.training.loop.train_together", refuse)
    assert main([*TUNE, "--results", str(small)]) == 1
    out = capsys.readouterr().out
    assert out.count("failed: the data are gone") == 2 and "trials failed: 2 of 2" in out
    assert not (small / "quick/tuned").exists()


def test_a_rule_that_always_diverges_keeps_no_other_from_its_settings(small, capsys, monkeypatch):
    def made(config, experiments):
        return ended(math.nan, math.nan, "diverged") if config.rule == "bp" else ended(50.0)

    monkeypatch.setattr(Store, "find", lambda store, *arguments: made(*arguments))
    assert main([*TUNE, "--rule", "fa", "--results", str(small)]) == 1
    assert "every trial of bp diverged, so nothing is chosen" in capsys.readouterr().out
    assert searches("mlp", "quick", small).keys() == {"fa"}


def test_a_broken_file_of_settings_stops_a_search_before_it_trains(small, capsys):
    path = write(small, "{")
    assert main([*TUNE, "--results", str(small)]) == 2
    assert f"{path}: not JSON" in capsys.readouterr().err and not records(small)


# The report


def choice_of(*accuracies, second=()):
    """A search whose trials have learning rates 0.1, 0.2 and so on; the old form, of one round, names none."""
    rows = [trial(lr=(n + 1) / 10, accuracy=accuracy) for n, accuracy in enumerate((*accuracies, *second))]
    if second:
        rows = [row | {"round": 1 + (n >= len(accuracies))} for n, row in enumerate(rows)]
    best = max(rows, key=lambda row: row["accuracy"])
    return {"chosen": {"lr": best["lr"], "weight_decay": 0.0}, "trials": rows}


def test_the_report_shows_best_against_trial_number(tmp_path):
    write(tmp_path, {"bp": choice_of(40, 60, 50, 55, second=(61, 57)), "fa": choice_of(30, 20, 25, 20)})
    section = tuning.section("quick", tmp_path / "quick", tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:6]] for line in section.splitlines() if line.startswith("| `")]
    assert rows == [["`bp`", "60.00", "", "", ""], ["`fa`", "30.00", "", "", ""]]
    assert "0.5" in section and "(figures/tuning-mlp.svg)" in section
    assert [line.split("|")[-2].strip() for line in section.splitlines() if line.startswith("| `")] == [
        "lowest decay",
        "lowest learning rate, lowest decay",
    ]
    assert tuning.section("cpu", tmp_path, tmp_path) == ""

    tuning.write("quick", tmp_path)
    numbers = pd.read_csv(tmp_path / "quick/figures/tuning-mlp.csv")
    assert numbers[numbers["rule"] == "bp"]["best"].tolist() == [40, 60, 60, 60, 61, 61]
    assert numbers["round"].tolist() == [1, 1, 1, 1, 2, 2, 1, 1, 1, 1]
    figure = tuning.draw(searches("mlp", "quick", tmp_path))
    bp, fa = figure.axes
    between = [[line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] for ax in (bp, fa)]
    assert between == [[4.5], []]
    circles = [[line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"] for ax in (bp, fa)]
    assert circles == [[5], [1]]
