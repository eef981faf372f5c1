"""CUDA graphs of training steps: a run whose steps are repeated is the run whose steps are computed one by one."""

from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from test_cuda_standin import SHARED, settings
from torch import Tensor
from torch.optim import rmsprop
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.models import MODELS
from bench.rules import RULES
from bench.training import graphs, loop
from bench.training.graphs import Graph
from bench.training.loop import train_together

SHORT = {"epochs": 3, "batch_size": 32, "epoch_examples": 168, "test_every": 1}
"""Six steps an epoch, the last one on 8 examples."""
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Recording(TorchDispatchMode):
    """Stands in for a CUDA graph on the CPU: repeats the recorded operations on the tensors they were recorded on.

    Operations are also carried out while they are recorded, so the first `replay` does nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = []
        self.carried_out = True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, given))
        return given

    def replay(self) -> None:
        if not self.carried_out:
            with torch._C._AutoDispatchBelowAutograd():
                for operation in self.operations:
                    self._repeat(*operation)
        self.carried_out = False

    def _repeat(self, function, args, kwargs, given) -> None:
        again = function(*args, **kwargs)
        for old, new in zip(tree_leaves(given), tree_leaves(again), strict=True):
            if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                old.copy_(new)


class Graphed(loop._Program):
    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.graph = Graph()


@contextmanager
def recorded(graph, stream):
    with graph:
        yield


def outcomes(*configs, device="cpu"):
    return [
        (outcome.status, outcome.first_losses, outcome.history, outcome.final)
        for outcome in train_together(configs, device=device)
    ]


def outcomes_on_recordings(*configs):
    """The same, with recordings on the CPU for CUDA graphs; each of three epochs makes one."""
    made = []

    def new():
        made.append(Recording())
        return made[-1]

    with (
        patch.multiple(torch.cuda, CUDAGraph=new, graph=recorded, current_stream=lambda: None),
        patch.object(rmsprop, "_get_capturable_supported_devices", lambda: ["cpu"]),
        patch.object(loop, "_Program", Graphed),
    ):
        found = outcomes(*configs)
    assert len(made) == 3
    return found


def short(model, rule, **changes):
    return settings(model, rule, **(SHORT | changes))


@pytest.mark.parametrize("rule", [rule for rule in RULES.built_in() if not RULES.get(rule).draws])
def test_repeated_steps_are_those_of_each_rule(rule):
    config = short("mlp", rule)
    assert outcomes_on_recordings(config) == outcomes(config)


@pytest.mark.parametrize("model", [model for model in MODELS.built_in() if model != "linear"])
def test_repeated_steps_are_those_of_each_network(model):
    config = short(model, "ldfa")
    assert outcomes_on_recordings(config) == outcomes(config)


@pytest.mark.parametrize("rule", ["bp", "ldfa"])
def test_repeated_steps_of_a_population_are_its_steps(rule):
    configs = [replace(short("mlp", rule), seed=seed) for seed in range(3)]
    assert outcomes_on_recordings(*configs) == outcomes(*configs)


# On a GPU

CASES = [
    *((model, "ldfa", members, "float32") for model in ("mlp", "cnn", "vit", "retina") for members in (1, 3)),
    *(("mlp", rule, 1, "float32") for rule in RULES.built_in() if rule != "ldfa"),
    *(("mlp", rule, 3, "float32") for rule in SHARED if rule != "ldfa"),
    *((model, "ldfa", 1, "bfloat16") for model in ("mlp", "cnn", "vit")),
]
CLOSE = {"float32": 1e-3, "bfloat16": 3e-2}
"""Relative difference allowed between losses within 18 steps: kernels that add in no fixed order differ a little."""
CLOSE_RETINA = 1e-2
"""Its RMSprop divides even the smallest gradients by their size; an H200 differed by 0.35% in the 18th step."""


@needs_gpu
@pytest.mark.parametrize(("model", "rule", "members", "precision"), CASES)
def test_a_gpu_repeats_steps(model, rule, members, precision, monkeypatch):
    dropout = {} if model == "retina" else {"dropout": 0.3}
    config = short(model, rule, precision=precision, model_options=settings(model, rule).model_options | dropout)
    configs = [replace(config, seed=seed) for seed in range(members)]
    with patch.object(torch.cuda.CUDAGraph, "replay", autospec=True, side_effect=torch.cuda.CUDAGraph.replay) as replay:
        repeated = outcomes(*configs, device="cuda")
    assert replay.call_count == 2 + 5 + 5
    monkeypatch.setattr(graphs, "WARM_UP", 99)
    close = CLOSE_RETINA if model == "retina" else CLOSE[precision]
    for (status, losses, *_), (_, expected, *_) in zip(repeated, outcomes(*configs, device="cuda"), strict=True):
        assert status == "ok" and losses == pytest.approx(expected, rel=close)
