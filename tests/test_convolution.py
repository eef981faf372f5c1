"""Convolutions under the rules: every shape of one, and a 1 x 1 convolution as a linear layer on pixels."""

from functools import partial

import pytest
import torch
from torch import Generator, nn

import bench
from bench.layers import Conv2d, Linear, _registry
from bench.layers.direct import source_for
from bench.operators import ConvOperator, LinearOperator
from bench.rules import RULES

OUT, IN, SIDE = 6, 3, 8
TOLERANCE = {"rtol": 0, "atol": 1e-10}
SHAPES = [(k, stride, padding) for k in (1, 3, 5) for stride in (1, 2) for padding in (0, 1)]


def plain(kernel=3, stride=1, padding=1, **options):
    torch.manual_seed(0)
    return nn.Conv2d(IN, OUT, kernel, stride, padding, **options).double()


def under(layer, rule, rank=2, kind=Conv2d):
    """The layer under a rule; a direct rule hears an error of 5 classes, or their labels."""
    rule = RULES.get(rule)()
    source = source_for(rule, 5)
    if rule.source:
        source.error = torch.randn(4, 5, dtype=torch.float64, generator=Generator().manual_seed(4))
    layer = kind.from_plain(layer, rule, rank, Generator().manual_seed(1), None, source)
    layer.targets = torch.eye(5)[:4].double() if rule.told == "all" else None
    return layer


def backward(layer):
    """Error sent down, and the gradients by parameter name, of a fixed batch."""
    generator = Generator().manual_seed(2)
    x = torch.randn(4, IN, SIDE, SIDE, dtype=torch.float64, generator=generator).requires_grad_()
    torch.manual_seed(3)
    y = layer(x)
    y.backward(torch.randn(y.shape, dtype=torch.float64, generator=generator))
    return x.grad, {name: p.grad for name, p in layer.named_parameters()}


@pytest.mark.parametrize("shape", SHAPES)
def test_identities_hold_for_every_kernel_stride_and_padding(shape):
    """Exact gradients of weight and bias; the exact error through B = W and through P Q = W."""
    exact, gradients = backward(plain(*shape))
    bp, fa = under(plain(*shape), "bp"), under(plain(*shape), "fa")
    ldfa = under(plain(*shape), "ldfa", rank=min(OUT, IN * shape[0] ** 2))
    fa.feedback["B"].data.copy_(fa.weight)
    U, S, Vh = torch.linalg.svd(ldfa.weight.data.flatten(1), full_matrices=False)
    ldfa.feedback["P"].data.copy_(U * S)
    ldfa.feedback["Q"].data.copy_(Vh.view_as(ldfa.feedback["Q"]))
    for layer in (bp, fa, ldfa):
        sent, found = backward(layer)
        torch.testing.assert_close(sent, exact, **TOLERANCE)
        for name in ("weight", "bias"):
            torch.testing.assert_close(found[name], gradients[name], **TOLERANCE)


@pytest.mark.parametrize("rule", ["bp", "fa", "ldfa"])
def test_a_convolution_of_another_package(rule):
    """Registered, it is what PyTorch's own with the same weight and feedback is, and `revert` gives it back."""

    class Tucked(nn.Module):
        """Keeps its kernel as (k, k, in, out), stride 2."""

        def __init__(self, weight):
            super().__init__()
            self.weight = nn.Parameter(weight.permute(2, 3, 1, 0).contiguous())

        def forward(self, x):
            return nn.functional.conv2d(x, self.weight.permute(3, 2, 0, 1), stride=2)

    class Operator(ConvOperator):
        def canonical(self, weight):
            return weight.permute(3, 2, 0, 1)

        def native(self, W):
            return W.permute(2, 3, 1, 0)

    own = plain(3, 2, 0, bias=False)
    network = nn.Sequential(Tucked(own.weight.data))
    bench.register_layer(Tucked, lambda layer: Operator((3, 3), (2, 2), (0, 0), (1, 1)))
    try:
        bench.convert(network, rule, 2 if rule == "ldfa" else None)
        layer = under(own, rule)
        for name, tensor in layer.feedback.items():
            network[0].feedback[name].data.copy_(tensor.data)
        (expected, gradients), (sent, found) = backward(layer), backward(network[0])
    finally:
        del _registry.LAYERS[Tucked]
        _registry.layer_class.cache_clear()
    torch.testing.assert_close(sent, expected, **TOLERANCE)
    found["weight"] = found["weight"].permute(3, 2, 0, 1)
    torch.testing.assert_close(found, gradients, **TOLERANCE)
    assert type(bench.revert(network)[0]) is Tucked


def test_spread_is_the_transpose_of_pool():
    generator = Generator().manual_seed(2)
    for op, shape in [(under(plain(), "bp").operator, (4, IN, SIDE, SIDE)), (LinearOperator(), (4, 3, 2, IN))]:
        x = torch.randn(shape, dtype=torch.float64, generator=generator)
        h = torch.randn(4, IN, dtype=torch.float64, generator=generator)
        torch.testing.assert_close((op.pool(x) * h).sum(), (x * op.spread(h, x.shape)).sum(), **TOLERANCE)


@pytest.mark.parametrize("rule", RULES.built_in())
def test_a_one_by_one_convolution_is_a_linear_layer_on_pixels(rule):
    conv = under(plain(1, 1, 0), rule)
    pixels = nn.Linear(IN, OUT).double()
    linear = under(pixels, rule, kind=Linear)
    linear.load_state_dict(
        {name: value.flatten(1) if value.ndim == 4 else value for name, value in conv.state_dict().items()}
    )

    class OnPixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear

        def forward(self, x):
            return self.linear(x.movedim(1, -1)).movedim(-1, 1)

    sent, grads = backward(conv)
    expected, on_pixels = backward(OnPixels())
    torch.testing.assert_close(sent, expected, **TOLERANCE)
    for name, grad in grads.items():
        other = on_pixels[f"linear.{name}"]
        assert (grad is None) == (other is None)
        if grad is not None:
            torch.testing.assert_close(grad.view_as(other), other, **TOLERANCE)


def test_q_gradient_is_the_projected_weight_gradient():
    layer = under(plain(3, 2, 1), "ldfa-q")
    _, grads = backward(layer)
    expected = torch.einsum("or,oikl->rikl", layer.feedback["P"], grads["weight"])
    torch.testing.assert_close(grads["feedback.Q"], expected, **TOLERANCE)


KINDS = {
    "conv1d": (partial(nn.Conv1d, 6, 8, 3, padding=1), (9,)),
    "conv3d": (partial(nn.Conv3d, 6, 8, 2, stride=2, groups=2), (5, 4, 6)),
    "grouped": (partial(nn.Conv2d, 6, 8, 3, stride=2, groups=2), (7, 7)),
    "depthwise": (partial(nn.Conv2d, 6, 6, 3, padding=1, groups=6), (5, 5)),
    "depthwise, wider": (partial(nn.Conv2d, 6, 12, 3, padding=1, groups=6), (5, 5)),
    "same": (partial(nn.Conv2d, 6, 8, (2, 3), padding="same", dilation=2), (7, 6)),
    "valid": (partial(nn.Conv2d, 6, 8, 3, padding="valid"), (7, 6)),
    "reflect": (partial(nn.Conv2d, 6, 8, 3, padding=(1, 2), padding_mode="reflect"), (7, 6)),
    "circular": (partial(nn.Conv2d, 6, 8, 3, padding="same", padding_mode="circular", groups=2), (7, 6)),
    "replicate": (partial(nn.Conv3d, 6, 8, 3, padding=1, stride=2, padding_mode="replicate"), (3, 4, 5)),
    "transposed 1d": (partial(nn.ConvTranspose1d, 6, 8, 3, stride=2, padding=1), (5,)),
    "transposed": (partial(nn.ConvTranspose2d, 6, 8, 3, stride=2, output_padding=1, groups=2), (4, 3)),
    "transposed 3d": (partial(nn.ConvTranspose3d, 6, 8, 2, dilation=2), (3, 2, 3)),
    "transposed, a step further": (partial(nn.ConvTranspose1d, 6, 8, 3, padding=1, dilation=2, output_padding=1), (5,)),
    "transposed, two": (partial(nn.ConvTranspose2d, 6, 8, 2, (2, 1), 1, (0, 2), 2, dilation=3), (4, 5)),
}
kinds = pytest.mark.parametrize(("kind", "size"), KINDS.values(), ids=KINDS)


def of_kind(kind, rule=None, rank=None):
    """A plain convolution, or the same under a rule."""
    torch.manual_seed(0)
    layer = kind().double()
    return bench.convert(layer, rule, rank) if rule else layer


def pass_back(layer, size):
    """Output, error sent down and gradients by parameter name, of a batch of 3."""
    generator = Generator().manual_seed(2)
    x = torch.randn(3, 6, *size, dtype=torch.float64, generator=generator).requires_grad_()
    torch.manual_seed(3)
    y = layer(x)
    y.backward(torch.randn(y.shape, dtype=torch.float64, generator=generator))
    return y.detach(), x.grad, {name: p.grad for name, p in layer.named_parameters()}


@kinds
@pytest.mark.parametrize("rule", ["bp", "fa", "ldfa"])
def test_identities_hold_for_every_kind_of_convolution(kind, size, rule):
    """With B = W, or P Q = W, in each group."""
    expected, exact, gradients = pass_back(of_kind(kind), size)
    layer = of_kind(kind, rule)
    W = layer.operator.canonical(layer.weight.data)
    groups = W.unflatten(0, (layer.operator.groups, -1))
    if rule == "fa":
        layer.feedback["B"].data.copy_(groups.reshape(layer.feedback["B"].shape))
    if rule == "ldfa":
        U, S, Vh = torch.linalg.svd(groups.flatten(2), full_matrices=False)
        layer.feedback["P"].data.copy_((U * S[:, None]).reshape(layer.feedback["P"].shape))
        layer.feedback["Q"].data.copy_(Vh.reshape(layer.feedback["Q"].shape))
    torch.testing.assert_close(layer.feedback_matrix(), W, **TOLERANCE)
    y, sent, found = pass_back(layer, size)
    torch.testing.assert_close(y, expected, **TOLERANCE)
    torch.testing.assert_close(sent, exact, **TOLERANCE)
    for name in ("weight", "bias"):
        torch.testing.assert_close(found[name], gradients[name], **TOLERANCE)


@kinds
@pytest.mark.parametrize("rule", RULES.built_in())
def test_every_rule_trains_every_kind_of_convolution(kind, size, rule):
    """All that learns gets a finite gradient, and nothing else gets one."""
    torch.manual_seed(0)
    network = nn.Sequential(kind(), nn.Flatten(), nn.LazyLinear(4))
    network(torch.randn(3, 6, *size))
    bench.convert(network, rule, 2 if RULES.get(rule).ranked else None)
    if RULES.get(rule)().told == "all":
        bench.tell(network, torch.eye(4)[:3])
    network(torch.randn(3, 6, *size, requires_grad=True)).square().sum().backward()
    for name, parameter in network[0].named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("rule", [n for n in RULES.built_in() if not (RULES.get(n).draws or RULES.get(n)().direct)])
def test_groups_are_layers_side_by_side(rule):
    """A convolution of two groups does what two convolutions do that start with its groups' parts."""
    grouped = of_kind(partial(nn.Conv2d, 6, 8, 3, groups=2), rule, 2 if RULES.get(rule).ranked else None)
    _, sent, gradients = pass_back(grouped, (5, 5))
    generator = Generator().manual_seed(2)
    x = torch.randn(3, 6, 5, 5, dtype=torch.float64, generator=generator)
    g = torch.randn(3, 8, 3, 3, dtype=torch.float64, generator=generator)
    for group in range(2):
        one = bench.convert(nn.Conv2d(3, 4, 3).double(), rule, grouped.rank if RULES.get(rule).ranked else None)
        state = {name: grouped.state_dict()[name][4 * group : 4 * group + 4] for name in ("weight", "bias")}
        one.load_state_dict(state | {f"feedback.{name}": value[group] for name, value in grouped.feedback.items()})
        part = x[:, 3 * group : 3 * group + 3].clone().requires_grad_()
        one(part).backward(g[:, 4 * group : 4 * group + 4])
        torch.testing.assert_close(part.grad, sent[:, 3 * group : 3 * group + 3], **TOLERANCE)
        for name, parameter in one.feedback.items():
            whole = gradients[f"feedback.{name}"]
            assert (whole is None) == (parameter.grad is None)
            if whole is not None:
                torch.testing.assert_close(parameter.grad, whole[group], **TOLERANCE)


def test_ranks_of_groups_are_capped_at_their_full_rank_and_fractions_of_their_channels():
    assert of_kind(KINDS["depthwise"][0], "ldfa", 4).feedback["P"].shape == (6, 1, 1)
    grouped = of_kind(KINDS["grouped"][0], "ldfa", "1/2")
    assert (grouped.feedback["P"].shape, grouped.feedback["Q"].shape) == ((2, 4, 2), (2, 2, 3, 3, 3))


def test_a_setting_may_be_one_number_for_all_dimensions():
    """As PyTorch takes it, also after the conversion."""
    plain, before, after = (nn.Conv2d(6, 8, 3).double() for _ in range(3))
    for layer in (before, after):
        layer.load_state_dict(plain.state_dict())
    bench.convert(after, "bp")
    for layer in (plain, before, after):
        layer.stride, layer.dilation = 2, 2
    bench.convert(before, "bp")
    for layer in (before, after):
        torch.testing.assert_close(pass_back(layer, (9, 8)), pass_back(plain, (9, 8)), **TOLERANCE)
        plain.zero_grad()


def test_an_output_size_that_is_asked_of_a_transposed_convolution():
    layer = of_kind(KINDS["transposed 1d"][0])
    x = torch.randn(2, 6, 5).double()
    expected = layer(x, output_size=[10])
    assert torch.equal(bench.convert(layer, "ldfa", 2)(x, output_size=[10]), expected)


@kinds
def test_unbatched_and_empty_inputs(kind, size):
    layer, x = of_kind(kind, "ldfa", 2), torch.randn(6, *size).double()
    expected = of_kind(kind)(x)
    y = layer(x)
    torch.testing.assert_close(y, expected, **TOLERANCE)
    y.sum().backward()
    layer(x[None][:0]).sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)
