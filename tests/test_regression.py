"""The comparison with the committed reference: it passes what the seeds explain, and no defect of a rule.

A defect that leaves the rule as good as it was is no matter of accuracy. Of this kind are another sign of feedback that
is random and fixed, Oja's rule without its decorrelating term, and a P of `ldfa-direct` that does not learn: the golden
trajectories notice them.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from bench.errors import UsageError
from bench.records.golden import trajectories as golden
from bench.rules import RULES
from bench.training.loop import train
from replication import regression
from replication.results import results_of


def frame(*rows):
    return pd.DataFrame(rows, columns=["sd", "n", "resolution"])


def test_tolerance_of_one_setting_is_the_prediction_half_width_of_another_mean():
    (found,) = regression.tolerance(frame((2.0, 5, 0.2)))
    assert found == pytest.approx(stats.t.ppf(0.9995, 4) * 2.0 * (1 / 5 + 1 / 5) ** 0.5)


def test_tolerance_is_no_finer_than_one_test_example():
    assert set(regression.tolerance(frame(*[(0.0, 5, 0.2)] * 9))) == {0.2}


def test_settings_alike_share_their_spread():
    found = regression.tolerance(frame(*[(2.0, 3, 0.2)] * 9))
    assert found.nunique() == 1
    assert found[0] == pytest.approx(stats.norm.ppf(0.9995) * 2.0 * (2 / 3) ** 0.5, rel=0.35)


def test_the_prior_of_the_variances_is_that_they_were_drawn_from():
    generator = np.random.default_rng(0)
    variances = 2.0**2 * 6 / generator.chisquare(6, 20_000)
    drawn = pd.Series(variances * generator.chisquare(3, 20_000) / 3)
    freedom, variance = regression.variance_prior(drawn, pd.Series(3.0, drawn.index))
    assert (freedom, variance) == (pytest.approx(6, rel=0.1), pytest.approx(4, rel=0.05))


def test_the_tolerance_holds_another_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    sigma = 2 * np.sqrt(6 / generator.chisquare(6, 20_000))
    first, second = sigma[:, None] * generator.standard_normal((2, 20_000, 3))
    group = pd.DataFrame({"sd": first.std(1, ddof=1), "n": 3, "resolution": 1e-9})
    beyond = np.abs(first.mean(1) - second.mean(1)) > regression.tolerance(group)
    assert beyond.mean() == pytest.approx(1 - regression.LEVEL, abs=6e-4)


def flipped(sent, gradients, *_):
    return -sent, gradients


def without(name):
    return lambda sent, gradients, *_: (sent, {key: g for key, g in gradients.items() if key != name})


def negated(name):
    return lambda sent, gradients, *_: (sent, {key: -g if key == name else g for key, g in gradients.items()})


def redrawn(sent, gradients, signals, feedback):
    B = torch.randn_like(feedback["B"]) * feedback["B"].std()
    return signals.op.transpose(B, signals.g, signals.x.shape), gradients


def transposed(sent, gradients, signals, feedback):
    """W' for W, where the layer is square."""
    W = signals.W.T.contiguous() if signals.W.shape[0] == signals.W.shape[1] else signals.W
    return signals.op.transpose(W, signals.g, signals.x.shape), gradients


def wrong_factor(sent, gradients, signals, feedback):
    """The factor P in another order of its rows for the error that Q learns from than for the one sent down."""
    return sent, gradients | {"Q": signals.op.outer(signals.op.project(feedback["P"].flip(0), signals.g), signals.x)}


def no_weight_term(sent, gradients, signals, feedback):
    P, Q = feedback["P"], feedback["Q"]
    return sent, {"P": P @ Q @ Q.T, "Q": P.T @ P @ Q}


def no_sign(sent, gradients, signals, feedback):
    return signals.op.transpose(feedback["M"], signals.g, signals.x.shape), gradients


def hebbian(sent, gradients, signals, feedback):
    signal = signals.op.rows(signals.g) if signals.targets is None else signals.targets
    centred = signal - signal.mean(0)
    variance = centred.square().mean(0).max()
    return sent, gradients | {"P": -centred.T @ (centred @ feedback["P"]) / (len(signal) * variance)}


def mutate(monkeypatch, name, change):
    """Registers the rule called `name` with a defect: `change` of what its `backward` gives for what learns."""
    rule = RULES.get(name)

    def backward(self, signals, feedback):
        sent, gradients = change(*rule.backward(self, signals, feedback), signals, feedback)
        return sent, {key: gradient for key, gradient in gradients.items() if key not in signals.fixed}

    mutated = type("Mutated", (rule,), {"backward": backward, "version": rule.version})
    monkeypatch.setattr(RULES.module(name), "RULE", mutated)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("bp", transposed),
        ("fa", redrawn),
        ("kp", without("B")),
        ("frsf", no_sign),
        ("ldfa", flipped),
        ("ldfa", without("Q")),
        ("ldfa", without("P")),
        ("ldfa", negated("Q")),
        ("ldfa", negated("P")),
        ("ldfa", wrong_factor),
        ("ldfa-track", no_weight_term),
    ],
)
def test_a_defect_of_a_rule_is_off(rule, change, monkeypatch):
    mutate(monkeypatch, rule, change)
    found = retrained("mlp", rule)
    compared = regression.compare(found, committed(found))
    assert "off" in set(compared["verdict"]), compared


def test_a_sound_rule_is_ok():
    found = retrained("mlp", "ldfa")
    compared = regression.compare(found, committed(found))
    assert set(compared["verdict"]) == {"ok"}, compared


@pytest.mark.parametrize(
    ("rule", "change"),
    [("fa", flipped), ("ldfa", hebbian), ("ldfa-direct", without("P")), ("ldfa-p", flipped)],
)
def test_golden_trajectories_notice_what_accuracy_cannot(rule, change, monkeypatch):
    mutate(monkeypatch, rule, change)
    runs = golden.configs("mlp")
    monkeypatch.setattr(golden, "configs", lambda model: {rule: runs[rule]})
    assert [line for line in golden.check(["mlp"]) if line.startswith(f"mlp/{rule}: ") and "the numbers moved" in line]


def retrained(model, rule):
    """The rows of the first setting of a rule, trained anew."""
    cells = results_of(regression.grid(model), "quick", regression.FOLDER).cells
    cell = next(cell for cell in cells if cell.config.rule == rule)
    records = {}
    for seed in range(cell.planned):
        outcome = train(replace(cell.config, seed=seed))
        records[seed] = {"status": outcome.status, "final": outcome.final, "history": outcome.history}
    return pd.DataFrame(regression.rows(replace(cell, records=records)))


def committed(found):
    """The rows of the reference that `found` is to be compared with."""
    reference = pd.read_csv(regression.REFERENCE)
    return reference.merge(found[regression.KEY])


def test_fresh_records_against_their_reference(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(regression, "REFERENCE", tmp_path / "reference.csv")
    monkeypatch.setattr(regression.MODELS, "built_in", lambda: ["mlp"])
    monkeypatch.setattr(regression.RULES, "built_in", lambda: ["bp", "fa"])
    monkeypatch.setattr(regression, "SEEDS", {"mlp": 2})
    monkeypatch.setattr(regression, "SETTINGS", {"mlp": {"epochs": 1}})
    folder = tmp_path / "runs"
    with pytest.raises(UsageError, match=r"reference.csv: no such file; make it with --write"):
        regression.command(folder, workers=1)
    with pytest.raises(UsageError, match=r"2 of 2 runs of mlp, 'bp' are missing"):
        regression.measured(folder)

    def status():
        with pytest.raises(SystemExit) as ended:
            regression.command(folder, workers=1)
        return ended.value.code

    regression.command(folder, workers=1, write=True)
    assert status() == 0

    reference = pd.read_csv(regression.REFERENCE)
    assert list(reference["mean"]) == pytest.approx(list(regression.measured(folder)["mean"]), abs=1e-4)
    reference.assign(mean=reference["mean"] + [0, 0, 0, 1.01 * reference["tolerance"][3]]).to_csv(
        regression.REFERENCE, index=False
    )
    assert status() == 1
    assert "3 of 4 numbers" in capsys.readouterr().out.splitlines()[-1]

    near = reference.assign(mean=reference["mean"] + [0.4, 0, 0, 1.01] * reference["tolerance"]).iloc[[1, 0, 3]]
    near.to_csv(regression.REFERENCE, index=False)
    regression.command(folder, workers=1, write=True)
    written = pd.read_csv(regression.REFERENCE)
    assert list(written["mean"]) == pytest.approx([near["mean"][0], *reference["mean"][1:]], abs=1e-4)

    reference.assign(setting=["bp", "bp", "kp", "kp"]).to_csv(regression.REFERENCE, index=False)
    assert status() == 1
    printed = capsys.readouterr().out
    assert "gone" in printed and "new" in printed


def test_a_diverged_run_is_off():
    cell = results_of(regression.grid("mlp"), "quick", regression.FOLDER).cells[0]
    ended = {"status": "ok", "final": {"accuracy": 98.0}, "history": [{"loss": 0.1}]}
    records = dict.fromkeys(range(5), ended) | {4: {"status": "diverged"}}
    found = pd.DataFrame(regression.rows(replace(cell, records=records)))
    good = pd.DataFrame(regression.rows(replace(cell, records=dict.fromkeys(range(5), ended))))
    compared = regression.compare(found, good.assign(tolerance=0.5))
    assert list(compared["verdict"]) == ["off", "off"]
