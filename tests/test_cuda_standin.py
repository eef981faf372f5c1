"""What training asks of a GPU, on a machine without one: every rule on every network, and faults planted on purpose."""

from dataclasses import replace
from inspect import getsourcelines
from textwrap import dedent
from typing import NamedTuple, get_args, get_type_hints
from unittest.mock import patch

import pytest
import torch
from cuda_standin import ROOT, gpu_that_is_not_there
from torch import Generator

import bench.training.loop
from bench.config import Config
from bench.data.base import Data, Split
from bench.models import MODELS
from bench.rules import RULES
from bench.rules.wm import WeightMirror
from bench.training.augment.geometry import Flip
from bench.training.batches import Batches
from bench.training.loop import train_together

BASE = Config(
    model="mlp",
    dataset="digits",
    rule="ldfa",
    rank="2",
    model_options={"width": 8},
    batch_size=128,
    epoch_examples=200,
    augment=("flip",),
    clip=1.0,
)
OF_MODEL = {
    "mlp": {},
    "cnn": {"model_options": {"width": 2}, "augment": ("crop:1", "cutout:2")},
    "vit": {
        "model_options": {"patch": 4, "width": 8, "depth": 1, "heads": 2},
        "optimiser": "adamw",
        "schedule": "cosine",
        "clip_gradients": 1.0,
    },
    "retina": {"model_options": {"channels": 2, "hidden": 8}, "optimiser": "rmsprop", "augment": ("rotate:10",)},
    "linear": {
        "model_options": {},
        "dataset": "linear-teacher:8",
        "optimiser": "sgd",
        "batch_size": 0,
        "epoch_examples": 0,
        "augment": (),
        "epochs": 2,
        "precision": "float64",
    },
}
pytestmark = pytest.mark.usefixtures("short_measures")
SHARED = [name for name in RULES.built_in() if RULES.get(name).source is None and not RULES.get(name).draws]


def settings(model="mlp", rule="ldfa", **changes):
    rank = BASE.rank if RULES.get(rule).ranked else None
    return replace(BASE, **({"model": model, "rule": rule, "rank": rank} | OF_MODEL[model] | changes))


def findings(*configs):
    """What a GPU would mind in the training of one network, or of a population."""
    with gpu_that_is_not_there() as stand_in:
        outcomes = train_together(configs, device="cuda")
    assert [outcome.status for outcome in outcomes] == ["ok"] * len(configs)
    assert all(parameter.is_meta for outcome in outcomes for parameter in outcome.learner.network.parameters())
    return list(map(str, stand_in.findings))


@pytest.mark.parametrize("rule", RULES.built_in())
@pytest.mark.parametrize("model", MODELS.built_in())
def test_a_step_never_waits_or_copies_and_all_of_it_is_on_the_gpu(model, rule):
    if not RULES.get(rule)().serves(MODELS.get(model).regression):
        pytest.skip("the rule is for classification")
    assert findings(settings(model, rule)) == []


@pytest.mark.parametrize("rule", SHARED)
@pytest.mark.parametrize("model", ["mlp", "cnn", "vit"])
def test_nor_does_that_of_a_population(model, rule):
    config = settings(model, rule)
    assert findings(config, replace(config, seed=1)) == []


@pytest.mark.parametrize("augment", ["autoaugment", "crop:2", "cutout:3", "flip", "rotate:10"])
def test_nor_does_an_augmentation(augment, monkeypatch):
    monkeypatch.setattr("bench.training.learner.load_once", lambda name, seed: colours())
    assert findings(settings(augment=(augment,))) == []


@pytest.mark.parametrize("precision", get_args(get_type_hints(Config)["precision"]))
@pytest.mark.parametrize("model", ["mlp", "cnn", "vit"])
def test_nor_does_a_step_of_any_precision(model, precision):
    assert findings(settings(model, precision=precision)) == []


def test_the_peak_of_memory_is_that_of_the_run():
    with gpu_that_is_not_there(), patch("torch.cuda.reset_peak_memory_stats") as reset:
        train_together([settings()], device="cuda", steps=1)
    reset.assert_called_once_with()


@pytest.mark.parametrize("model", ["mlp", "cnn", "vit", "retina"])
def test_measures_and_tests_along_training_are_on_the_gpu_too(model):
    assert findings(settings(model, epochs=2, measure_every=1, test_every=1)) == []


def test_a_gpu_has_convolutions_with_channels_last():
    """Weights and feedback, with their gradients; those of a population are stacked."""
    with gpu_that_is_not_there():
        (outcome,) = train_together([settings("cnn", "fa")], device="cuda", steps=2)
    tensors = [tensor for tensor in outcome.learner.network.parameters() if tensor.ndim == 4]
    assert len(tensors) > 8
    for tensor in tensors:
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert tensor.grad is None or tensor.grad.stride() == tensor.stride()


def colours():
    """32 x 32 pixels in three colours."""
    generator = Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (400, 3, 32, 32), generator=generator).to(torch.uint8)
    split = Split(inputs, torch.arange(400) % 10)
    return Data("colours", split, split, 10, {})


# Faults planted on purpose


class Fault(NamedTuple):
    """Part of a function's source, what replaces it, what is found, and the line where it is found."""

    owner: object
    function: str
    right: str
    wrong: str
    found: str
    line: str


ROWS = "rows = rows.flatten()"
SELECTED = "inputs, targets = inputs.index_select(0, rows), targets[rows]"
MIRRORED = "rows = torch.arange(n, device=images.device) + n * drawn"
NOISE = "noise = W.new_empty(self.samples, W[0].numel()).normal_()"
CORRELATION = "correlation = (noise @ W.flatten(1).T).T @ noise / self.samples"
STEP = "    optimiser.step()"
FAULTS = {
    "arange": Fault(Flip, "apply", ", device=images.device", "", "two devices (add)", MIRRORED),
    "index": Fault(
        Batches, "batch", "rows = rows.flatten()", "rows = rows.flatten().cpu()", "two devices (index_select)", SELECTED
    ),
    "draws": Fault(Batches, "batch", "each.flatten(0, 1)", "each.flatten(0, 1).cpu()", "two devices (add)", MIRRORED),
    "copy": Fault(
        Batches, "batch", "rows.flatten()", "rows.flatten().cpu().to(rows.device)", "copy to the GPU (_to_copy)", ROWS
    ),
    "item": Fault(
        bench.training.loop,
        "step",
        "optimiser.step()",
        "optimiser.step(), loss.item()",
        "wait (_local_scalar_dense)",
        STEP,
    ),
    "branch": Fault(
        bench.training.loop,
        "step",
        "optimiser.step()",
        "loss < 9 and optimiser.step()",
        "wait (_local_scalar_dense)",
        STEP,
    ),
    "mask": Fault(Batches, "batch", "targets[rows]", "targets[rows[rows >= 0]]", "wait (index)", SELECTED),
    "generator": Fault(
        WeightMirror, "backward", "l_()", "l_(generator=torch.Generator())", "generator (normal_)", NOISE
    ),
    "constant": Fault(
        WeightMirror, "backward", "/ self.samples", "* torch.tensor(2.0)", "CPU tensor (lift_fresh)", CORRELATION
    ),
    "constant on the GPU": Fault(
        WeightMirror,
        "backward",
        "/ self.samples",
        "* torch.tensor(2.0, device=W.device)",
        "copy to the GPU (_to_copy)",
        CORRELATION,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_where_it_is(fault, monkeypatch):
    owner, name, right, wrong, found, line = FAULTS[fault]
    function = getattr(owner, name)
    source, first = getsourcelines(function)
    code = dedent("".join(source))
    assert code.count(right) == 1
    planted = {}
    code = compile("\n" * (first - 1) + code.replace(right, wrong), function.__code__.co_filename, "exec")
    exec(code, function.__globals__ | {"torch": torch}, planted)
    monkeypatch.setattr(owner, name, planted[name])
    places = [
        f"{path.relative_to(ROOT)}:{number}: {found}"
        for path in (ROOT / "bench").rglob("*.py")
        for number, text in enumerate(path.read_text().splitlines(), 1)
        if line in text
    ]
    assert set(places) & set(findings(settings(rule="wm")))
