"""Convolutions under the rules: every shape of one, and a 1 x 1 convolution as a linear layer on pixels."""

import pytest
import torch
from torch import Generator, nn

from bench.errors import UsageError
from bench.layers import Conv2d, Linear, Source
from bench.operators import LinearOperator
from bench.rules import RULES

OUT, IN, SIDE = 6, 3, 8
TOLERANCE = {"rtol": 0, "atol": 1e-10}
SHAPES = [(k, stride, padding) for k in (1, 3, 5) for stride in (1, 2) for padding in (0, 1)]


def plain(kernel=3, stride=1, padding=1, **options):
    torch.manual_seed(0)
    return nn.Conv2d(IN, OUT, kernel, stride, padding, **options).double()


def under(layer, rule, rank=2, kind=Conv2d):
    """The layer under a rule; a direct rule hears an error of 5 classes."""
    source = None
    if RULES.get(rule).source:
        source = Source(5)
        source.error = torch.randn(4, 5, dtype=torch.float64, generator=Generator().manual_seed(4))
    return kind.under(layer, RULES.get(rule)(), rank, Generator().manual_seed(1), None, source)


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


@pytest.mark.parametrize("options", [{"groups": 3}, {"padding": "same"}, {"padding_mode": "reflect"}])
def test_other_convolutions_are_refused(options):
    with pytest.raises(UsageError, match="cannot be under a rule; allowed"):
        under(plain(**options), "bp")
