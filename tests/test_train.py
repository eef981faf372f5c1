"""The training loop: reproducible, resumable, the same for every rule, and exact where backpropagation is known."""

import time
from dataclasses import replace
from itertools import islice
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Generator
from torch.nn import functional as F

import bench.training.learner
import bench.training.loop
from bench.config import Config
from bench.data import load_once
from bench.data.base import Data, Split
from bench.data.linear_teacher import teacher
from bench.errors import UsageError
from bench.models.mlp import MLP
from bench.rules import RULES
from bench.training.augment import ALLOWED, augmentation
from bench.training.augment.geometry import Flip, Rotate
from bench.training.batches import Batches
from bench.training.learner import build, loss_of, prepare, step, stream
from bench.training.length import steps
from bench.training.loop import train
from bench.training.process import train_alone

TOLERANCE = {"rtol": 0, "atol": 1e-10}
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


SHORT = replace(LDFA, batch_size=64, epochs=2, epoch_examples=200)


def test_a_short_epoch_draws_its_own_examples_and_the_test_is_whole():
    data = load_once("digits", 0)
    batches = Batches(data.train, data, replace(SHORT, augment=()))
    epochs = [torch.cat([x for x, _ in batches.shuffled(Generator().manual_seed(seed))]).flatten(1) for seed in (0, 1)]
    assert len(batches) == 4 and [len(epoch.unique(dim=0)) for epoch in epochs] == [200, 200]
    assert len(torch.cat(epochs).unique(dim=0)) > 300
    assert sum(len(x) for x, _ in batches.in_order()) == len(data.train)
    whole = Batches(data.train, data, replace(SHORT, augment=(), epoch_examples=9999))
    assert sum(len(x) for x, _ in whole.shuffled(Generator().manual_seed(0))) == len(data.train)
    assert len(train(SHORT).first_losses) == steps(SHORT) == 8


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


def test_bfloat16_is_the_forward_pass_alone():
    """Its losses are float32's within the rounding of bfloat16, and not equal to them; what is kept is float32."""
    mixed, single = (train(replace(LDFA, precision=precision)) for precision in ("bfloat16", "float32"))
    losses = torch.tensor([mixed.first_losses[:5], single.first_losses[:5]])
    assert 0 < (losses[0] - losses[1]).abs().max() < 0.05
    assert {p.dtype for p in mixed.learner.network.parameters()} == {torch.float32}


def test_a_gpu_without_short_products(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    for precision in ("bfloat16", "tf32"):
        with pytest.raises(UsageError, match=f"Old GPU has no {precision}; expected: float32, float64"):
            prepare(replace(LDFA, precision=precision), "cuda")


@pytest.mark.parametrize(
    ("precision", "short"), [("float32", False), ("float64", False), ("bfloat16", True), ("tf32", True)]
)
def test_a_gpu_multiplies_and_convolves_alike(precision, short, monkeypatch):
    """Whatever ran before; the flags are PyTorch's, and hold without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("highest" if short else "high")
        torch.backends.cudnn.allow_tf32 = not short
        bench.training.learner._set_products(replace(LDFA, precision=precision))
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == short
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_tf32_is_float32_on_the_cpu():
    assert result(train(replace(LDFA, precision="tf32"))) == result(train(LDFA))


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


# Images


def images(n=4, size=8):
    return torch.rand(n, 3, size, size, generator=Generator().manual_seed(0))


def test_flip_mirrors_left_to_right():
    x = images()
    flipped = Flip().apply(x, torch.tensor([True, False, True, False]))
    assert torch.equal(flipped[0], x[0].flip(-1)) and torch.equal(flipped[1], x[1])
    assert torch.equal(Flip().apply(Flip().apply(x, torch.ones(4) > 0), torch.ones(4) > 0), x)
    assert Flip().draw(10_000, Generator().manual_seed(0)).float().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotation_by_quarter_turns(size, turns):
    x = images(size=size)
    rotated = Rotate(90).apply(x, torch.full((len(x),), turns * torch.pi / 2))
    assert torch.equal(rotated, x.rot90(turns, (-2, -1)))


def test_rotation_fills_with_black():
    rotated = Rotate(45).apply(torch.ones(1, 1, 9, 9), torch.tensor([torch.pi / 4]))[0, 0]
    assert rotated[0, 0] == rotated[-1, -1] == 0 and rotated[3:6, 3:6].min() == 1


def test_rotation_angles_cover_both_directions():
    angles = augmentation("rotate:10").draw(10_000, Generator().manual_seed(0)).rad2deg()
    assert angles.min() == pytest.approx(-10, abs=0.01) and angles.max() == pytest.approx(10, abs=0.01)
    assert angles.mean() == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("spec", ["", "flip:1", "rotate", "rotate:", "rotate:x", "Flip"])
def test_an_augmentation_that_does_not_exist(spec):
    with pytest.raises(UsageError, match=f"^augment: '{spec}' is not allowed; expected: {ALLOWED}$"):
        augmentation(spec)


def test_every_example_comes_once_an_epoch_in_another_order():
    data = load_once("digits", 0)
    batches = Batches(data.train, data, replace(LDFA, augment=()))
    epochs = [torch.cat([x for x, _ in batches.shuffled(Generator().manual_seed(seed))]) for seed in (0, 1)]
    in_order = torch.cat([x for x, _ in batches.in_order()])
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[0], in_order)
    for epoch in epochs:
        torch.testing.assert_close(epoch.sum(0), in_order.sum(0))
    assert in_order.mean() == pytest.approx(0, abs=1e-5) and in_order.std() == pytest.approx(1, abs=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_draws_are_shared_across_devices():
    on_cpu = load_once("digits", 0)
    on_gpu = on_cpu.to("cuda")
    pairs = [Batches(data.train, data, LDFA).shuffled(Generator().manual_seed(0)) for data in (on_cpu, on_gpu)]
    for (x, labels), (x_gpu, labels_gpu) in zip(*pairs, strict=True):
        assert torch.equal(labels, labels_gpu.cpu())
        torch.testing.assert_close(x, x_gpu.cpu())


def test_channel_statistics():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 5, 7), np.uint8)
    split = Split(torch.from_numpy(pixels), torch.zeros(20, dtype=torch.int64))
    mean, std = Data("noise", split, split, 1, {}).channel_statistics
    np.testing.assert_allclose(mean.flatten(), (pixels / 255).mean((0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(std.flatten(), (pixels / 255).std((0, 2, 3)), atol=1e-12)
    assert mean.shape == std.shape == (1, 3, 1, 1)


def test_losses():
    outputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert loss_of(outputs, torch.zeros(2, 2)) == 0.5 * (5 + 25) / 2
    by_hand = np.log1p(np.exp(-1.0))
    assert loss_of(outputs, torch.tensor([1, 1])).item() == pytest.approx(by_hand)


# End to end, in float64


EXACT = replace(LDFA, rank="full", precision="float64", augment=())


def become_backpropagation(layer):
    """Sets the feedback to the forward weights: B = W, or at full rank P Q = W."""
    W = layer.weight.data
    if "B" in layer.feedback:
        layer.feedback["B"].data.copy_(W)
    elif "P" in layer.feedback:
        U, S, Vh = torch.linalg.svd(W, full_matrices=False)
        layer.feedback["P"].data.copy_(U * S)
        layer.feedback["Q"].data.copy_(Vh)


LAYERED = [name for name in RULES.names() if not RULES.get(name)().direct]


@pytest.mark.parametrize("rule", ["bp", "fa", "kp", "wm", *(name for name in LAYERED if RULES.get(name).ranked)])
def test_with_the_forward_weights_as_feedback_every_rule_is_backpropagation(rule):
    """All gradients of the network, biases and batch norm too, are those of autograd on the plain network."""
    data = load_once("digits", 0)
    config = under(rule, EXACT)
    learner = build(config, data)
    for layer in learner.layers.values():
        become_backpropagation(layer)
    ((inputs, targets),) = islice(Batches(data.train, data, config).in_order(), 1)
    plain = MLP(data, width=16).double()
    plain.load_state_dict({name: t for name, t in learner.network.state_dict().items() if "feedback" not in name})
    loss = F.cross_entropy(plain(inputs), targets)
    loss.backward()
    found, _ = step(learner, torch.optim.SGD(learner.network.parameters(), lr=0.0), inputs, targets)
    torch.testing.assert_close(found, loss.detach(), **TOLERANCE)
    grads = {name: p.grad for name, p in learner.network.named_parameters()}
    for name, p in plain.named_parameters():
        torch.testing.assert_close(grads[name], p.grad, **TOLERANCE)


def discrete(rule, data, W1, W2, P, Q, steps):
    """The linear network's updates from the moments of the samples alone; `ldfa` has Oja's rule on the targets."""
    X, Y = data.train.inputs.numpy(), data.train.targets.numpy()
    Sxx, Sxy, Syy = X.T @ X / len(X), Y.T @ X / len(X), np.cov(Y.T, bias=True)
    C = Syy / (np.sqrt(Syy.diagonal().max()) + 1e-8) ** 2
    lr, decay = LINEAR.lr, LINEAR.lr * LINEAR.weight_decay
    feedback_lr, feedback_decay = lr * LINEAR.feedback_rate, decay * LINEAR.feedback_rate
    losses = []
    for _ in range(steps):
        D = Sxy - W2 @ W1 @ Sxx
        losses.append(0.5 * np.trace(Y.T @ Y / len(Y) - 2 * W2 @ W1 @ Sxy.T + W2 @ W1 @ Sxx @ W1.T @ W2.T))
        back = W2 if rule == "bp" else P @ Q
        new_W2 = W2 + lr * D @ W1.T - decay * W2
        new_W1 = W1 + lr * back.T @ D - decay * W1
        new_Q = Q + feedback_lr * P.T @ D @ W1.T - feedback_decay * Q if rule in ("ldfa", "ldfa-q") else Q
        new_P = P + feedback_lr * (C @ P - P @ P.T @ C @ P) - feedback_decay * P if rule == "ldfa" else P
        W1, W2, P, Q = new_W1, new_W2, new_P, new_Q
    return losses, W1, W2, P, Q


@pytest.mark.parametrize("rule", ["bp", "fa-lowrank", "ldfa-q", "ldfa"])
def test_the_linear_network_follows_the_discrete_updates(rule):
    config = under(rule, LINEAR)
    data = load_once(config.dataset, config.seed)

    def tensors(learner):
        feedback = learner.layers["B1"].feedback
        named = [learner.network.first.weight, learner.network.second.weight, *feedback.values()]
        return [tensor.detach().numpy().copy() for tensor in named] + [np.zeros((64, 4)), np.zeros((4, 64))]

    W1, W2, P, Q = tensors(build(config, data))[:4]
    outcome = train(config)
    losses, *expected = discrete(rule, data, W1, W2, P, Q, config.epochs)
    np.testing.assert_allclose(outcome.first_losses, losses, atol=1e-10)
    for found, wanted in zip(tensors(outcome.learner), expected, strict=False):
        np.testing.assert_allclose(found, wanted, atol=1e-10)
    U, _, Vh = np.linalg.svd(teacher(8, config.seed).numpy())
    strengths = (U.T @ expected[1] @ expected[0] @ Vh.T).diagonal()[:8]
    np.testing.assert_allclose(outcome.history[-1]["mode_strengths"], strengths, rtol=1e-5)


def test_a_process_that_trains_takes_subnormal_numbers_for_zero():
    threads = torch.get_num_threads()
    try:
        train_alone()
        assert torch.get_num_threads() == 1
        assert (torch.tensor([1e-30]) * 1e-10).item() == 0
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
    assert (torch.tensor([1e-30]) * 1e-10).item() > 0
