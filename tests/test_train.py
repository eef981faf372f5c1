"""The training loop: reproducible, resumable, the same for every rule, and exact where backpropagation is known."""

import time
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Generator

import bench.training.learner
import bench.training.loop
from bench.config import Config, stream
from bench.data import load_once
from bench.data.base import Split
from bench.errors import UsageError
from bench.models.mlp import MLP
from bench.rules import RULES
from bench.training.batches import Batches
from bench.training.learner import build
from bench.training.loop import train

LDFA = Config(
    model="mlp",
    dataset="digits",
    rule="ldfa",
    rank="3",
    model_options={"width": 16},
    batch_size=128,
    epochs=3,
    augment=("flip", "rotate:10"),
)
LINEAR = Config(
    model="linear",
    dataset="linear-teacher:8",
    rule="ldfa",
    rank="4",
    optimiser="sgd",
    lr=0.05,
    weight_decay=0.3,
    feedback_rate=0.4,
    batch_size=0,
    epochs=3,
    precision="float64",
)


def train_on(data, config):
    with patch("bench.training.learner.load_once", lambda name, seed: data):
        return train(config)


def under(rule, config=LDFA):
    return replace(config, rule=rule, rank=config.rank if RULES.get(rule).ranked else None)


def result(outcome):
    """All that two runs must share bit for bit: metrics and the state of the network."""
    state = {name: tensor.tolist() for name, tensor in outcome.learner.network.state_dict().items()}
    return outcome.status, outcome.first_losses, outcome.history, outcome.final, state


# Seeds


def test_one_seed_is_one_result():
    assert result(train(LDFA)) == result(train(LDFA))


def test_seeds_differ_in_weights_order_and_feedback():
    one, other = train(LDFA), train(replace(LDFA, seed=1))
    assert one.first_losses[0] != other.first_losses[0]
    learners = [build(replace(LDFA, seed=seed), load_once("digits", 0)) for seed in (0, 1)]
    assert not torch.equal(*(learner.layers["B1"].feedback["P"] for learner in learners))
    assert len({stream(seed, purpose) for seed in (0, 1) for purpose in ("weights", "feedback", "epoch 1")}) == 6


def test_rules_share_weights_data_order_and_augmentation():
    """While nothing moves every step has the same loss; afterwards the rules part."""
    still = [train(under(rule, replace(LDFA, lr=0.0))).first_losses for rule in RULES.names()]
    assert len(still[0]) == 33 and len(set(still[0])) == 33
    assert all(losses == still[0] for losses in still)
    assert train(under("bp")).first_losses[0] == train(under("fa")).first_losses[0] == still[0][0]
    assert train(under("bp")).first_losses[2] != train(under("fa")).first_losses[2]


# Interruptions


class Interrupted(Exception):
    pass


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "run.pt"


@pytest.mark.parametrize("config", [replace(LDFA, gamma=0.5), replace(LINEAR, epochs=7, log_every=2)])
def test_a_run_paused_by_its_deadline_ends_as_an_uninterrupted_one(config, checkpoint):
    statuses = []
    while not statuses or statuses[-1] == "paused":
        outcome = train(config, checkpoint=checkpoint, deadline=time.monotonic())
        statuses.append(outcome.status)
    assert statuses == ["paused"] * (len(statuses) - 1) + ["ok"] and len(statuses) > 2
    assert result(outcome) == result(train(config))


@pytest.mark.parametrize("last", [1, 2])
def test_a_run_that_broke_off_goes_on_from_its_checkpoint(last, checkpoint, monkeypatch):
    monkeypatch.setattr(bench.training.loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(bench.training.loop, "CHECKPOINT_TIMES", 0)
    told = []

    def tell(entry):
        told.append(entry["epoch"])
        if len(told) == last + 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(LDFA, checkpoint=checkpoint, progress=tell)
    assert result(train(LDFA, checkpoint=checkpoint, progress=tell)) == result(train(LDFA))
    assert told == [*range(1, last + 2), *range(last + 1, 4)]


def test_checkpoints_wait_until_the_last_is_old_enough(checkpoint):
    train(LDFA, checkpoint=checkpoint)
    assert not checkpoint.exists()


# What is trained, and what judges


def test_the_test_split_judges_and_does_nothing_else():
    """Other test images change the final metrics alone; a validation run never sees them."""
    data = load_once("digits", 0)
    noise = torch.randint(0, 256, data.test.inputs.shape, generator=Generator().manual_seed(0)).to(torch.uint8)
    other = replace(data, test=Split(noise, data.test.targets))
    judged, altered = train(LDFA), train_on(other, LDFA)
    assert judged.final != altered.final
    assert (judged.history, result(judged)[-1]) == (altered.history, result(altered)[-1])
    validation = replace(LDFA, split="validation")
    assert result(train(validation)) == result(train_on(other, validation))
    assert train(validation).final != judged.final


def test_tests_along_training_change_nothing_and_are_those_of_a_run_that_ends_there():
    config = replace(LDFA, gamma=0.9)
    plain, tested = train(config), train(replace(config, test_every=2))
    assert tested.final == plain.final
    assert [entry.get("test") for entry in tested.history] == [None, train(replace(config, epochs=2)).final, None]


class Measured(MLP):
    def measure_trained(self, inputs):
        norm = self.output.weight.norm().item()
        return {"inputs": inputs.sum().item(), "training": self.training, "norm": norm}


def test_a_network_is_measured_once_trained_and_nothing_else_changes(monkeypatch):
    plain = train(LDFA)
    monkeypatch.setattr(bench.training.learner, "MODELS", {"mlp": Measured})
    measured = train(LDFA)
    assert plain.trained == {} and result(measured) == result(plain)
    first, _ = next(Batches(measured.data.train, measured.data, LDFA).in_order())
    norm = measured.learner.network.output.weight.norm().item()
    assert measured.trained == {"inputs": first.sum().item(), "training": False, "norm": norm}
    assert train(replace(LDFA, lr=1e38)).trained == {}


def test_measuring_a_trained_retina_leaves_it_as_it_is():
    config = replace(LDFA, model="retina", rank="B2=1", model_options={"channels": 2, "hidden": 8}, epochs=1)
    outcome = train(config)
    network = outcome.learner.network

    def state():
        gradients = {f"gradient of {name}": p.grad for name, p in network.named_parameters() if p.grad is not None}
        return {"random": torch.random.get_rng_state(), **network.state_dict(), **gradients}

    before = {name: tensor.clone() for name, tensor in state().items()}
    inputs, _ = next(Batches(outcome.data.train, outcome.data, config).in_order())
    assert network.measure_trained(inputs) == outcome.trained
    torch.testing.assert_close(state(), before, rtol=0, atol=0)
    assert not network.training and train(config).trained == outcome.trained


def test_batch_norm_uses_batches_in_training_and_running_statistics_in_the_test():
    outcome = train(replace(LDFA, precision="float64"))
    data, network = outcome.data, outcome.learner.network
    assert network.hidden[0][1].num_batches_tracked == 3 * 11
    pixels, train_pixels = (split.inputs.double().flatten(1).numpy() / 255 for split in (data.test, data.train))
    x = (pixels - train_pixels.mean()) / train_pixels.std()
    for linear, norm, _ in network.hidden:
        z = x @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        z = (z - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
        x = np.maximum(z * norm.weight.detach().numpy() + norm.bias.detach().numpy(), 0)
    logits = x @ network.output.weight.detach().numpy().T + network.output.bias.detach().numpy()
    labels = data.test.targets.numpy()
    loss = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels])
    assert outcome.final["loss"] == pytest.approx(loss, abs=1e-10)
    assert outcome.final["accuracy"] == 100 * np.mean(logits.argmax(1) == labels)
    training = outcome.first_losses[-11:]
    sizes = [128] * 10 + [1297 - 1280]
    assert outcome.history[-1]["loss"] == pytest.approx(np.average(training, weights=sizes), abs=1e-10)


def test_the_network_learns():
    outcome = train(replace(LDFA, lr=0.01, rank="10", batch_size=32, epochs=4, augment=()))
    assert outcome.status == "ok" and outcome.final["accuracy"] > 90


def test_a_run_whose_loss_becomes_infinite_stops_as_diverged():
    outcome = train(replace(LDFA, lr=1e38))
    assert outcome.status == "diverged"
    assert outcome.final == {} and len(outcome.history) < 3


def test_a_run_whose_test_loss_is_not_finite_is_diverged():
    data = load_once(LINEAR.dataset, 0)
    beyond = replace(data, test=Split(data.test.inputs * 1e200, data.test.targets))
    outcome = train_on(beyond, LINEAR)
    assert outcome.status == "diverged" and outcome.final == {}
    assert [entry["epoch"] for entry in outcome.history] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "bp"}, "--rank 3: rule 'bp' has no rank"),
        ({"rule": "ldfaa"}, "unknown rule 'ldfaa' (did you mean 'ldfa'?)"),
        ({"model": "linear"}, "--dataset digits: model 'linear' is for regression"),
        ({"model_options": {"depth": 3}}, "options of model mlp"),
        ({"rule_options": {"output": "labels"}}, "options of rule ldfa: output: 'labels' is not allowed"),
        ({"augment": ("crop",)}, "augment: 'crop' is not allowed"),
    ],
)
def test_a_configuration_that_cannot_run(change, message):
    with pytest.raises(UsageError) as error:
        train(replace(LDFA, **change))
    assert message in str(error.value) and "\n" not in str(error.value)
