"""The rules against their equations in float64, one step written out in NumPy; what they share is in the contract."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Generator, nn

import bench
from bench.errors import UsageError
from bench.layers import Linear
from bench.layers.direct import source_for
from bench.rules import RULES
from bench.rules.ldfa_p import oja

OUT, IN, ROWS, CLASSES = 7, 5, 11, 6
DIRECT = [name for name in RULES.built_in() if RULES.get(name)().direct]
TOLERANCE = {"rtol": 0, "atol": 1e-10}


def layer(rule, rank=3, **options):
    """A float64 layer under a rule, the same weights for every rule; a direct rule hears an error of `CLASSES`."""
    torch.manual_seed(0)
    plain = nn.Linear(IN, OUT).double()
    kind = RULES.get(rule)(**options)
    source = source_for(kind, CLASSES)
    if kind.source:
        source.error = torch.randn(ROWS, CLASSES, dtype=torch.float64, generator=Generator().manual_seed(3))
    under = Linear.from_plain(plain, kind, rank, Generator().manual_seed(1), None, source)
    under.targets = one_hot(CLASSES) if kind.told == "all" else None
    return under


def batch(*leading):
    generator = Generator().manual_seed(2)
    shape = leading or (ROWS,)
    x = torch.randn(*shape, IN, dtype=torch.float64, generator=generator).requires_grad_()
    g = torch.randn(*shape, OUT, dtype=torch.float64, generator=generator)
    return x, g


def one_hot(classes=OUT):
    return torch.nn.functional.one_hot(torch.arange(ROWS) % classes, classes).double()


def backward(layer, x, g):
    """Error sent down, and the gradients by parameter name."""
    layer(x).backward(g)
    grads = {name: p.grad for name, p in layer.named_parameters()}
    return x.grad, grads


def test_kp_without_a_feedback_step_is_fa():
    torch.testing.assert_close(backward(layer("kp"), *batch())[0], backward(layer("fa"), *batch())[0], **TOLERANCE)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_q_follows_the_forward_weights(decay):
    """Under SGD at equal rates Q - P'W is constant without decay, and shrinks by 1 - rate x decay a step with it."""
    under, rate = layer("ldfa-q"), 0.05
    optimiser = torch.optim.SGD(under.parameters(), lr=rate, weight_decay=decay)

    def gap():
        return (under.feedback["Q"] - under.feedback["P"].T @ under.weight).detach()

    expected = gap()
    for _ in range(5):
        optimiser.zero_grad()
        backward(under, *batch())
        optimiser.step()
        expected = expected * (1 - rate * decay)
    torch.testing.assert_close(gap(), expected, **TOLERANCE)


def test_oja_finds_the_principal_subspace():
    generator = Generator().manual_seed(3)
    scales = torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.1], dtype=torch.float64)
    signal = torch.randn(500, OUT, dtype=torch.float64, generator=generator) * scales + 1.0
    P = torch.linalg.qr(torch.randn(OUT, 2, dtype=torch.float64, generator=generator)).Q
    for _ in range(2000):
        P = P - 0.1 * oja(P, signal, signal @ P)
    top = torch.linalg.eigh(torch.cov(signal.T)).eigenvectors[:, -2:]
    torch.testing.assert_close(P.T @ P, torch.eye(2, dtype=torch.float64), **TOLERANCE)
    torch.testing.assert_close(P @ P.T, top @ top.T, **TOLERANCE)


@pytest.mark.parametrize(("ratio", "off"), [(1, 1e-5), (1e3, 1e-3), (1e4, 1e-2)])
def test_oja_is_right_far_from_a_centred_signal(ratio, off):
    """In float32, of a mean that many times the spread."""
    generator = Generator().manual_seed(3)
    signal = ratio + torch.randn(128, OUT, generator=generator)
    P = torch.linalg.qr(torch.randn(OUT, 2, generator=generator)).Q
    expected = torch.from_numpy(oja_gradient(P.double().numpy(), signal.double().numpy()))
    assert (oja(P, signal, signal @ P) - expected).norm() < off * expected.norm()


@pytest.mark.parametrize("value", [0.1, 1000.0])
def test_oja_learns_nothing_from_a_signal_that_does_not_vary(value):
    signal = value * torch.arange(1.0, 1 + OUT).expand(33, OUT)
    P = torch.linalg.qr(torch.randn(OUT, 2, generator=Generator().manual_seed(3))).Q
    assert not oja(P, signal, signal @ P).any()


def test_kp_gives_b_the_gradient_of_w_under_a_gradient_penalty_too():
    torch.manual_seed(0)
    network = bench.convert(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), "kp")
    x = torch.randn(5, 3, requires_grad=True)
    y = network(x)
    (sent,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (y.square().sum() + sent.square().sum()).backward()
    for layer in (network[0], network[2]):
        torch.testing.assert_close(layer.feedback["B"].grad, layer.weight.grad)


def oja_gradient(P, signal):
    s = signal - signal.mean(0)
    s = s / (s.std(0).max() + 1e-8)
    return -(np.eye(len(P)) - P @ P.T) @ (s.T @ s / len(s)) @ P


EQUATIONS = {
    "bp": lambda s: (s.g @ s.W, {}),
    "fa": lambda s: (s.g @ s.B, {}),
    "kp": lambda s: (s.g @ s.B, {"B": s.dW}),
    "fa-lowrank": lambda s: (s.g @ s.P @ s.Q, {}),
    "ldfa-q": lambda s: (s.g @ s.P @ s.Q, {"Q": s.P.T @ s.dW}),
    "ldfa-p": lambda s: (s.g @ s.P @ s.Q, {"P": oja_gradient(s.P, s.signal)}),
    "ldfa": lambda s: (s.g @ s.P @ s.Q, {"P": oja_gradient(s.P, s.signal), "Q": s.P.T @ s.dW}),
    "ldfa-hebb": lambda s: (s.g @ s.P @ s.Q, {"P": s.dW @ s.Q.T, "Q": s.P.T @ s.dW}),
    "ldfa-track": lambda s: (s.g @ s.P @ s.Q, {"P": (s.P @ s.Q - s.W) @ s.Q.T, "Q": s.P.T @ (s.P @ s.Q - s.W)}),
    "pfa": lambda s: (s.g @ s.B @ s.R, {"R": s.B.T @ s.dW}),
    "usf": lambda s: (s.g @ (np.sign(s.W) / np.sqrt(3 * s.W.shape[1])), {}),
    "frsf": lambda s: (s.g @ (np.sign(s.W) * s.M), {}),
    "dfa": lambda s: (s.direct @ s.B, {}),
    "dkp": lambda s: (s.direct @ s.B, {"B": s.direct.T @ s.x}),
    "drtp": lambda s: (-s.labels @ s.B / len(s.labels), {}),
    "ldfa-direct": lambda s: (s.direct @ s.P @ s.Q, {"P": oja_gradient(s.P, s.direct), "Q": (s.direct @ s.P).T @ s.x}),
}
"""SPEC of each rule: error sent down, gradient of each feedback tensor that learns."""


@pytest.mark.parametrize("signal", ["targets", "error", "hidden"])
@pytest.mark.parametrize("rule", EQUATIONS)
def test_one_step_agrees_with_the_equations(rule, signal):
    """At the output layer with either signal of P, and at a hidden layer, which has no targets."""
    learns_p = "output" in RULES.get(rule).__dataclass_fields__
    under = layer(rule, output="error" if signal == "error" else "targets") if learns_p else layer(rule)
    if rule != "drtp":
        under.targets = None if signal == "hidden" else one_hot()
    x, g = batch()
    tensors = {"W": under.weight, **under.feedback, "x": x, "g": g, "signal": one_hot() if signal == "targets" else g}
    step = SimpleNamespace(**{name: tensor.detach().numpy() for name, tensor in tensors.items()})
    step.dW, step.labels = step.g.T @ step.x, one_hot(CLASSES).numpy()
    step.direct = under.source.error.numpy() if under.rule.source else None
    sent, gradients = EQUATIONS[rule](step)
    found, grads = backward(under, x, g)
    np.testing.assert_allclose(found, sent, atol=1e-10)
    for name in under.feedback:
        grad = grads[f"feedback.{name}"]
        if name in gradients:
            np.testing.assert_allclose(grad, gradients[name], atol=1e-10)
        else:
            assert grad is None


@pytest.mark.parametrize("rule", [name for name in EQUATIONS if name not in DIRECT])
def test_tokens_are_rows(rule):
    """A batch of tokens gives what the same rows give as a flat batch."""
    tokens = backward(layer(rule), *batch(4, 3))
    x, g = batch(4, 3)
    flat = backward(layer(rule), x.detach().flatten(0, 1).requires_grad_(), g.flatten(0, 1))
    torch.testing.assert_close(tokens[0].flatten(0, 1), flat[0], **TOLERANCE)
    for name, grad in tokens[1].items():
        torch.testing.assert_close(grad, flat[1][name], **TOLERANCE)


def test_brsf_redraws_magnitudes_under_the_signs_of_the_weights():
    """An error of one unit at a time reads out the feedback, row by row."""
    under = layer("brsf")
    torch.manual_seed(0)
    draws = [
        backward(under, torch.zeros(OUT, IN).double().requires_grad_(), torch.eye(OUT).double())[0] for _ in range(2)
    ]
    for draw in draws:
        assert torch.equal(draw.sign(), under.weight.sign())
        assert draw.abs().max() <= IN**-0.5
    assert not torch.equal(*draws)


def test_wm_mirrors_the_noise_that_passes_through():
    """With the noise redrawn from the same seed; and its mean leads to the forward weights."""
    under = layer("wm", samples=1000)
    W, B = under.weight.detach().numpy(), under.feedback["B"].detach().numpy()
    x, g = batch()
    torch.manual_seed(5)
    sent, grads = backward(under, x, g)
    torch.manual_seed(5)
    noise = torch.randn(1000, IN, dtype=torch.float64).numpy()
    np.testing.assert_allclose(sent, g.numpy() @ B, atol=1e-10)
    np.testing.assert_allclose(grads["feedback.B"], B - (noise @ W.T).T @ noise / 1000, atol=1e-10)
    np.testing.assert_allclose(grads["feedback.B"], B - W, atol=0.2)


@pytest.mark.parametrize("option", [("wm", "samples", 0), ("ldfa-track", "resets", -1)])
def test_options_out_of_range_are_refused(option):
    rule, name, value = option
    with pytest.raises(UsageError, match=f"^{name}: {value} is not allowed; expected: . or more$"):
        RULES.get(rule)(**{name: value})


def test_track_is_reset_to_the_best_approximation_of_the_weights():
    under = layer("ldfa-track")
    for tensor in under.feedback.values():
        tensor.data.zero_()
    with torch.no_grad():
        under.rule.reset(under.weight, dict(under.feedback))
    fresh = layer("ldfa-track")
    assert all(torch.equal(tensor, fresh.feedback[name]) for name, tensor in under.feedback.items())


@pytest.mark.parametrize("rule", DIRECT)
def test_direct_error_reaches_every_token_alike(rule):
    under = layer(rule)
    x, g = batch(ROWS, 3)
    sent, grads = backward(under, x, g)
    flat = layer(rule)
    expected, means = backward(flat, x.detach().mean(1).requires_grad_(), g[:, 0])
    torch.testing.assert_close(sent, (expected / 3)[:, None].expand(ROWS, 3, IN), **TOLERANCE)
    for name, grad in grads.items():
        if name.startswith("feedback") and grad is not None:
            torch.testing.assert_close(grad, means[name], **TOLERANCE)


def test_pfa_spreads_the_error_without_loss():
    B = layer("pfa").feedback["B"]
    assert B.shape == (OUT, 10 * OUT)
    torch.testing.assert_close(B @ B.T, torch.eye(OUT, dtype=torch.float64))


def test_track_starts_at_the_best_approximation_of_the_weights():
    under = layer("ldfa-track")
    U, S, Vh = torch.linalg.svd(under.weight.data, full_matrices=False)
    torch.testing.assert_close(under.feedback["P"] @ under.feedback["Q"], U[:, :3] * S[:3] @ Vh[:3])


@pytest.mark.parametrize(
    "rule", [name for name in RULES.built_in() if "initial" in RULES.get(name).__dataclass_fields__]
)
def test_initial_factors_are_independent_of_the_weights(rule):
    under = layer(rule)
    torch.testing.assert_close(under.feedback["P"].T @ under.feedback["P"], torch.eye(3, dtype=torch.float64))
    assert under.feedback["Q"].abs().max() <= IN**-0.5
    uniform = layer(rule, initial="uniform")
    assert uniform.feedback["P"].abs().max() <= 3**-0.5


def test_clip_bounds_the_error_sent_down():
    under = layer("bp")
    under.clip = 0.1
    assert backward(under, *batch())[0].abs().max() == 0.1
