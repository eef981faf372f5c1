"""Layers under a rule as layers of PyTorch: dtypes, devices, keywords, geometry, saving."""

import copy
import pickle

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional as F

import bench
from bench.errors import UsageError
from bench.layers import LAYERS, layer_class
from bench.operators import LinearOperator
from bench.rules import RULES
from bench.rules.ldfa_p import oja


@pytest.mark.parametrize("rule", ["bp", "ldfa", "wm"])
def test_tokens_that_are_changed_in_place_afterwards_and_rows_that_are_none_or_one(rule):
    network = bench.convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), rule)
    out = network(torch.randn(2, 3, 4))
    assert out.shape == (2, 3, 4)
    out.sum().backward()
    assert network(torch.randn(4)).shape == (4,)
    network.zero_grad()
    network(torch.zeros(0, 4)).sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", [name for name in RULES.built_in() if not RULES.get(name)().direct])
def test_half_precision(rule, dtype):
    """Made in it, or turned to it; small errors give finite gradients, and Oja's are near those in float32."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    rank = 2 if RULES.get(rule).ranked else None
    made = bench.convert(copy.deepcopy(plain).to(dtype), rule, rank)
    turned = bench.convert(plain, rule, rank).to(dtype)
    x = torch.randn(16, 8, dtype=dtype)
    for network in (made, turned):
        (network(x) * 1e-3).sum().backward()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
        assert {p.dtype for p in network.parameters()} == {dtype}


def test_small_errors_in_half_precision_turn_p_as_they_do_in_float32():
    """Their squares are below what float16 holds."""
    generator = Generator().manual_seed(0)
    signal = 1e-4 * torch.randn(64, 8, generator=generator)
    P = torch.linalg.qr(torch.randn(8, 2, generator=generator)).Q
    half = oja(P.half(), signal.half(), signal.half() @ P.half())
    torch.testing.assert_close(half.float(), oja(P, signal, signal @ P), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("rule", RULES.built_in())
def test_feedback_is_made_where_the_weight_is(rule):
    network = bench.convert(nn.Sequential(nn.Linear(4, 4, device="meta"), nn.Linear(4, 2, device="meta")), rule)
    assert {p.device.type for p in network.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("kind", "size"),
    [(nn.Linear(4, 3), (2, 4)), (nn.Conv2d(4, 3, 3), (2, 4, 5, 5)), (nn.ConvTranspose1d(4, 3, 3), (2, 4, 5))],
)
def test_layers_take_their_input_by_keyword(kind, size):
    x = torch.randn(size)
    expected = kind(input=x)
    assert torch.equal(bench.convert(kind, "fa")(input=x), expected)


def test_a_registered_layer_takes_its_input_by_its_own_keyword():
    class Own(nn.Linear):
        def forward(self, states):
            return F.linear(states, self.weight, self.bias)

    bench.register_layer(Own, lambda layer: LinearOperator())
    x, own = torch.randn(2, 4), Own(4, 3)
    expected = own(states=x)
    try:
        assert torch.equal(bench.convert(own, "fa")(states=x), expected)
    finally:
        del LAYERS[Own]
        layer_class.cache_clear()


def test_the_backward_pass_is_in_the_dtype_of_the_weight_also_inside_autocast():
    torch.manual_seed(0)
    layer = nn.Linear(32, 32)
    network, x = bench.convert(nn.Sequential(layer, nn.Tanh(), layer), "ldfa", 4), torch.randn(16, 32)

    def gradients(inside):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(x).square().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        return [p.grad for p in network.parameters()]

    torch.testing.assert_close(gradients(True), gradients(False))


def test_fixed_feedback_stays_fixed_if_the_network_is_frozen_and_thawed():
    network = bench.convert(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "ldfa")
    assert "P" in network[0].fixed
    network.requires_grad_(False).requires_grad_(True)
    network(torch.randn(3, 4)).square().sum().backward()
    assert network[1].feedback.P.grad is None and network[1].feedback.Q.grad is not None


def test_geometry_that_changes_after_conversion_counts():
    x = torch.randn(1, 4, 8, 8)
    network = bench.convert(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)), "fa")
    network[0].stride = (2, 2)
    y = network(x)
    y.sum().backward()
    torch.testing.assert_close(y, bench.revert(network)(x))
    bench.convert(network, "fa")
    with pytest.raises(UsageError, match=r"^groups=2: feedback is for 1 groups; revert first"):
        network[0].groups = 2


def test_a_layer_is_saved_without_the_others():
    network = bench.convert(nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 2)), "fa")
    assert len(pickle.dumps(network[1])) < 20_000
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert list(copied[0].family) == list(copied) and copied[0].family is copied[1].family


@pytest.mark.parametrize("rule", RULES.built_in())
def test_the_default_device_does_not_matter(rule):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.device("meta"):
        bench.convert(network, rule)
    assert all(tensor.is_cpu for layer in network for tensor in layer.feedback.values())


@pytest.mark.parametrize("rule", ["ldfa", "dfa"])
def test_feedback_that_comes_from_the_meta_device_is_drawn_or_loaded_before_use(rule):
    def emptied():
        with torch.device("meta"):
            network = bench.convert(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), rule)
        network.to_empty(device="cpu").load_state_dict(plain.state_dict(), strict=False)
        return network

    x, plain = torch.ones(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    network = emptied()
    with pytest.raises(UsageError, match=r"^layer '0': its feedback is uninitialised after to_empty"):
        network(x)
    for layer in network:
        layer.reset_feedback()
    network(x).sum().backward()
    other = emptied()
    other.load_state_dict(network.state_dict())
    other(x).sum().backward()
    torch.testing.assert_close(other[0].weight.grad, network[0].weight.grad)
    if rule == "ldfa":
        torch.testing.assert_close(network[0].feedback.P.T @ network[0].feedback.P, torch.eye(4))
