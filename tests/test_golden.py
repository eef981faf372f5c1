"""The golden trajectories hold, and notice what would move the numbers."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import bench.rules.ldfa_p
import bench.training.learner
import bench.training.loop
from bench.errors import UsageError
from bench.layers import Linear
from bench.models import MODELS
from bench.models.mlp import MLP
from bench.operators import LinearOperator
from bench.records.golden import trajectories as golden
from bench.rules import RULES
from bench.rules.ldfa import LowDimensionalFeedback
from bench.training.augment.geometry import Rotate

BOTH = ["linear", "mlp"]


@pytest.mark.usefixtures("short_measures")
@pytest.mark.parametrize("model", MODELS.built_in())
def test_the_numbers_have_not_moved(model):
    assert golden.check([model]) == []


def two_runs(patch, folder):
    """The golden runs are `linear/ldfa` and `mlp/ldfa` alone, and their trajectories lie in `folder`."""
    patch.setattr(golden, "FOLDER", folder)
    patch.setattr(golden, "BASE", {model: golden.BASE[model] for model in BOTH})
    patch.setattr("bench.records.golden.runs.VARIANTS", {})
    patch.setattr(MODELS, "built_in", lambda: BOTH)
    patch.setattr(RULES, "built_in", lambda: ["ldfa"])


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A folder with golden trajectories of two runs, just written."""
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        two_runs(patch, folder)
        golden.write()
    return folder


@pytest.fixture
def written(fresh, tmp_path, monkeypatch):
    """A copy of them, in use."""
    two_runs(monkeypatch, shutil.copytree(fresh, tmp_path / "golden"))
    return tmp_path / "golden"


def problems():
    """The lines of `check`, cut before what they advise."""
    lines = golden.check()
    assert not any("\n" in line for line in lines)
    return [line.rpartition("; ")[0] for line in lines]


def wrong_sign(P, signal, projected, oja=bench.rules.ldfa_p.oja):
    return -oja(P, signal, projected)


def fixed_q(self, signals, feedback, backward=LowDimensionalFeedback.backward):
    sent, gradients = backward(self, signals, feedback)
    return sent, {"P": gradients["P"]}


def no_decay(config, learner, optimiser_of=bench.training.loop.optimiser_of):
    return optimiser_of(replace(config, weight_decay=0.0), learner)


def no_clip(self, operator, rule, rank, given, fixed, clip, source, take_over=Linear._take_over):
    take_over(self, operator, rule, rank, given, fixed, None, source)


@pytest.mark.parametrize(
    ("where", "name", "mutant", "moved"),
    [
        (bench.rules.ldfa_p, "oja", wrong_sign, BOTH),
        (LowDimensionalFeedback, "backward", fixed_q, BOTH),
        (bench.training.loop, "optimiser_of", no_decay, BOTH),
        (bench.training.learner, "stream", lambda seed, purpose: seed, BOTH),
        (LinearOperator, "project", lambda self, P, g: g @ P * (1 + 1e-4), BOTH),
        (Linear, "_take_over", no_clip, ["mlp"]),
        (Rotate, "apply", lambda self, images, drawn: images, ["mlp"]),
        (torch.nn.Module, "eval", lambda self: self, ["mlp"]),
    ],
)
def test_a_change_of_the_numbers_is_noticed(written, monkeypatch, where, name, mutant, moved):
    monkeypatch.setattr(where, name, mutant)
    found = problems()
    assert [line.partition("/")[0] for line in found] == moved
    assert all("is" in line and "golden" in line and line.endswith("the numbers moved") for line in found)


def test_moved_numbers_are_overwritten_only_with_a_new_version(written, monkeypatch):
    before = (written / "mlp/ldfa.json").read_text()
    monkeypatch.setattr(Linear, "_take_over", no_clip)
    either = r"raise LowDimensionalFeedback\.version or MLP\.version if on purpose$"
    with pytest.raises(UsageError, match=rf"^mlp/ldfa: loss of step \d+ is .* {either}"):
        golden.write()
    assert (written / "mlp/ldfa.json").read_text() == before
    monkeypatch.setattr(MLP, "version", MLP.version + 1)
    assert problems() == [f"mlp: version {MLP.version}, golden trajectories {MLP.version - 1}"]
    golden.write()
    assert problems() == []


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.json")}


def test_a_raised_version_of_a_rule_rewrites_its_runs_and_no_others(written, monkeypatch):
    """On every network; of a rule that moved beside it, without a raise, the numbers stay and are named."""
    monkeypatch.setattr(RULES, "built_in", lambda: ["bp", "ldfa"])
    golden.write()
    before, raised = contents(written), LowDimensionalFeedback.version + 1
    monkeypatch.setattr(LowDimensionalFeedback, "backward", fixed_q)
    monkeypatch.setattr(LowDimensionalFeedback, "version", raised)
    assert problems() == [
        f"{model}/ldfa: version {raised} of ldfa, golden trajectory {raised - 1}" for model in ("linear", "mlp")
    ]
    with monkeypatch.context() as patch:
        patch.setattr(bench.training.learner, "stream", lambda seed, purpose: seed)
        with pytest.raises(UsageError, match=r"^linear/bp: .* raise Backpropagation\.version or Linear"):
            golden.write()
    assert contents(written) == before
    golden.write()
    assert problems() == []
    changed = {name for name, text in contents(written).items() if text != before[name]}
    assert changed == {f"{model}{end}.json" for model in BOTH for end in ("", "/ldfa")}
    assert json.loads(contents(written)["mlp.json"])["rules"] == {"ldfa": raised}


def test_a_new_rule_adds_files_and_edits_none(written, monkeypatch):
    before = contents(written)
    monkeypatch.setattr(RULES, "built_in", lambda: ["bp", "ldfa"])
    golden.write()
    after = contents(written)
    assert after.items() >= before.items()
    assert after.keys() - before == {f"{model}/bp.json" for model in BOTH}


def test_a_rule_a_run_or_a_network_without_golden_trajectory_is_named(written, monkeypatch):
    monkeypatch.setattr(RULES, "built_in", lambda: ["bp"])
    monkeypatch.setattr(golden, "BASE", {"linear": golden.BASE["linear"]})
    assert golden.check() == [
        "linear/bp: no golden trajectory; run python -m bench.records.golden",
        "linear/ldfa: no such run; run python -m bench.records.golden",
        "mlp: no golden run is defined",
    ]
