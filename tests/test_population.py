"""Populations: each member trains as it does alone, whatever becomes of the others."""

import gc
import time
import weakref
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from bench.config import Config
from bench.data import load_once
from bench.data.base import Data, Split
from bench.rules import RULES
from bench.training.learner import build
from bench.training.loop import train, train_together
from bench.training.population import Population

BASE = Config(
    model="mlp",
    dataset="digits",
    rule="ldfa",
    model_options={"width": 16},
    weight_decay=1e-3,
    feedback_rate=0.7,
    batch_size=100,
    epochs=2,
    gamma=0.7,
    augment=("flip", "rotate:10"),
    clip=0.05,
    precision="float64",
)
RANKS = ("3", "full", "B1=1", "B3=2,B1=7")
ALONE = {"dfa", "dkp", "ldfa-direct", "wm", "brsf"}
SHARED = sorted(set(RULES.names()) - ALONE)


def settings(rule, **changes):
    """Four runs, of seeds under which no unit of `usf` has output weights of one sign: its error would be rounding."""
    base = replace(BASE, rule=rule, **changes)
    ranks = RANKS if RULES.get(rule).ranked else [None] * len(RANKS)
    return [replace(base, seed=seed, rank=rank) for seed, rank in enumerate(ranks, start=4)]


def alone(configs):
    return [train(config) for config in configs]


def numbers(outcome):
    """All that a run says, as numbers: losses, metrics and the state of its network."""
    network = outcome.learner.network
    tensors = dict(network.state_dict())
    return {"losses": outcome.first_losses, "history": outcome.history, "final": outcome.final, **tensors}


def agree(outcomes, others, rtol=1e-6, atol=1e-6):
    for one, other in zip(outcomes, others, strict=True):
        assert one.status == other.status
        torch.testing.assert_close(numbers(one), numbers(other), rtol=rtol, atol=atol)


@pytest.mark.parametrize("rule", SHARED)
def test_a_population_trains_as_its_members_do_alone(rule):
    configs = settings(rule)
    outcomes = train_together(configs)
    assert [outcome.population for outcome in outcomes] == [4] * 4
    assert len({tuple(outcome.first_losses) for outcome in outcomes}) == 4
    agree(outcomes, alone(configs))


DROPS = [
    ("mlp", {"width": 16, "dropout": 0.5}),
    ("cnn", {"width": 2, "dropout": 0.5}),
    ("vit", {"patch": 4, "width": 8, "depth": 1, "heads": 2, "dropout": 0.0, "drop_path": 0.5}),
    ("vit", {"patch": 4, "width": 8, "depth": 1, "heads": 2, "dropout": 0.3, "drop_path": 0.0}),
]


@pytest.mark.parametrize(("model", "options"), DROPS, ids=["mlp", "cnn", "drop path", "attention"])
def test_members_draw_masks_of_their_own_and_the_same_ones_again(model, options):
    """Twins on the same batch: nothing but the masks can part them."""
    config = replace(BASE, model=model, model_options=options, rule="bp", rank=None, augment=())
    inputs, targets = some_digits()

    def losses(seed):
        population = Population([build(config, load_once("digits")) for _ in range(3)])
        optimiser = torch.optim.SGD(population.weights(), lr=0.0)
        torch.manual_seed(seed)
        return population.gradients(optimiser, inputs.expand(3, *inputs.shape), targets.expand(3, -1))[0].tolist()

    assert len(set(losses(1))) == 3
    assert losses(1) == losses(1) != losses(2)


def some_digits():
    data = load_once("digits")
    return data.train.inputs[:50].double() / 8 - 1, data.train.targets[:50]


def test_masks_of_a_population_are_in_distribution_those_of_a_run_alone():
    """The mean loss over many draws, and its spread, with the same weights on the same batch; and no correlation."""
    config = replace(BASE, model_options={"width": 16, "dropout": 0.5}, rule="bp", rank=None, augment=())
    alone, one, other = (build(config, load_once("digits")) for _ in range(3))
    population = Population([one, other])
    optimiser = torch.optim.SGD(population.weights(), lr=0.0)
    inputs, targets = some_digits()
    both = inputs.expand(2, *inputs.shape), targets.expand(2, -1)
    torch.manual_seed(0)
    with torch.no_grad():
        single = torch.stack([alone.loss(inputs, targets)[0] for _ in range(600)])
    members = torch.stack([population.gradients(optimiser, *both)[0] for _ in range(300)])
    error = (single.var() / 600 + members.var() / 600).sqrt()
    assert abs(members.mean() - single.mean()) < 4 * error
    assert 0.8 < members.std() / single.std() < 1.25
    assert abs(torch.corrcoef(members.T)[0, 1]) < 4 / 300**0.5


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("cnn", {"width": 2, "dropout": 0.0}),
        ("vit", {"patch": 4, "width": 8, "depth": 1, "heads": 2, "dropout": 0.0, "drop_path": 0.0}),
    ],
)
@pytest.mark.parametrize("rule", ["bp", "ldfa", "ldfa-track"])
def test_convolutions_and_tokens(model, options, rule):
    changes = {"model": model, "model_options": options, "epochs": 1, "epoch_examples": 300}
    ranks = ["1", "full"] if RULES.get(rule).ranked else [None] * 2
    configs = [replace(BASE, rule=rule, rank=rank, seed=seed, **changes) for seed, rank in enumerate(ranks)]
    agree(train_together(configs), alone(configs))


def test_convolutions_of_images_in_colour(monkeypatch):
    """Their batch norm is not given images with channels last, over which a GPU cannot map it."""
    last = []

    def batch_norm(x, *arguments, batch_norm=F.batch_norm):
        last.append(torch._C._are_functorch_transforms_active() and x.stride(1) == 1 and x.shape[2] > 1)
        return batch_norm(x, *arguments)

    monkeypatch.setattr(F, "batch_norm", batch_norm)
    inputs = torch.randint(0, 256, (100, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    split = Split(inputs, torch.arange(100) % 10)
    monkeypatch.setattr("bench.training.learner.load_once", lambda name, seed: Data("colours", split, split, 10, {}))
    options = {"width": 2, "dropout": 0.0}
    changes = {"model": "cnn", "model_options": options, "batch_size": 20, "optimiser": "sgd", "lr": 0.01}
    configs = [replace(BASE, rank=rank, seed=seed, **changes) for seed, rank in enumerate(["1", "full"])]
    agree(train_together(configs), alone(configs))
    assert last and not any(last)


def test_resets_measures_and_tests_along_training():
    changes = {"rule_options": {"resets": 2}, "measure_every": 1, "test_every": 1, "clip_gradients": 0.01}
    configs = settings("ldfa-track", **changes)[:3]
    outcomes = train_together(configs)
    assert outcomes[2].history[0]["layers"]["B1"] and outcomes[2].history[1]["test"]
    agree(outcomes, alone(configs), rtol=1e-5)


@pytest.mark.parametrize(("rule", "options"), [("ldfa", {}), ("ldfa-track", {"resets": 2})])
def test_a_member_that_diverges_leaves_the_others_untouched(rule, options, monkeypatch):
    configs = settings(rule, rule_options=options)

    def spoilt(config, data):
        learner = build(config, data)
        if config.seed == configs[1].seed:
            learner.network.output.weight.data[0, 0] = torch.inf
        return learner

    monkeypatch.setattr("bench.training.loop.build", spoilt)
    outcomes, singles = train_together(configs), alone(configs)
    assert [outcome.status for outcome in outcomes] == ["ok", "diverged", "ok", "ok"]
    agree(outcomes[::2], singles[::2])
    for outcome in (outcomes[1], singles[1]):
        assert (len(outcome.history), len(outcome.first_losses), outcome.final) == (1, 13, {})


def test_a_population_that_pauses_ends_as_an_uninterrupted_one(tmp_path):
    configs = settings("ldfa", epochs=3)
    statuses = []
    while not statuses or statuses[-1] == {"paused"}:
        outcomes = train_together(configs, checkpoint=tmp_path / "runs.pt", deadline=time.monotonic())
        statuses.append({outcome.status for outcome in outcomes})
    assert statuses == [{"paused"}, {"paused"}, {"ok"}]
    agree(outcomes, train_together(configs), rtol=0, atol=0)


def test_nothing_of_a_population_outlives_it():
    (outcome, _) = train_together(settings("ldfa")[:2], steps=1)
    tensor = weakref.ref(outcome.learner.network.output.weight)
    population = weakref.ref(Population([outcome.learner]))
    del outcome, _
    gc.collect()
    assert tensor() is None and population() is None


def test_members_are_views_of_the_population():
    data = load_once("digits", 0)
    learners = [build(config, data) for config in settings("ldfa")]
    population = Population(learners)
    with torch.no_grad():
        for tensor in [*population.weights(), *population.feedback()]:
            tensor.fill_(2.0)
    assert all((p == 2).all() == p.requires_grad for learner in learners for p in learner.network.parameters())
    assert [len(learner.layers["B1"].feedback["Q"]) for learner in learners] == [3, 16, 1, 7]
