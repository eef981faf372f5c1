"""Training in float64 against numbers known otherwise: autograd on the plain network, updates of the linear one."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from test_train import LDFA, LINEAR, under
from torch.nn import functional as F

from bench.data import load_once
from bench.data.linear_teacher import teacher
from bench.models.mlp import MLP
from bench.rules import RULES
from bench.training.batches import Batches
from bench.training.learner import build, loss_of, step
from bench.training.loop import train

TOLERANCE = {"rtol": 0, "atol": 1e-10}


def test_losses():
    outputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert loss_of(outputs, torch.zeros(2, 2)) == 0.5 * (5 + 25) / 2
    by_hand = np.log1p(np.exp(-1.0))
    assert loss_of(outputs, torch.tensor([1, 1])).item() == pytest.approx(by_hand)


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
