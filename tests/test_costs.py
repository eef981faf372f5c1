"""What a rule costs: counts against the sizes of the products, by hand and by PyTorch's counter over a whole step."""

from dataclasses import replace

import pytest
import torch
from torch import Generator, nn

from bench.config import Config
from bench.data import load
from bench.layers import Conv2d, Linear
from bench.layers.direct import source_for
from bench.rules import RULES
from bench.rules.base import Rule, Signals
from bench.training.costs import Flops, cost, example, first_batch, flops_by_layer, flops_of_step, total
from bench.training.learner import build

N, IN, OUT, R = 32, 12, 20, 3
PAIR = 2 * N * IN * OUT
"""A product over all weights for each example."""


def oja(out):
    """Scores with the signal, `out` wide, with themselves, and P times that; projected the signal was before."""
    return 2 * R * (N * out + N * R + out * R)


def linear(rule):
    source = source_for(rule, 10)
    layer = Linear.from_plain(nn.Linear(IN, OUT), rule, R, Generator().manual_seed(0), None, source)
    x, g, heard = torch.randn(N, IN), torch.randn(N, OUT), torch.randn(N, 10) if source else None
    return cost(layer, Signals(layer.operator, layer.weight, x, g, targets=heard, direct=heard))


@pytest.mark.parametrize(
    ("rule", "error_path", "feedback_update"),
    [
        ("bp", PAIR, 0),
        ("usf", PAIR, 0),
        ("brsf", PAIR, 0),
        ("kp", PAIR, 0),
        ("wm", PAIR, 2 * 2 * 128 * IN * OUT),
        ("fa-lowrank", 2 * N * R * (IN + OUT), 0),
        ("ldfa-q", 2 * N * R * (IN + OUT), 2 * N * R * IN),
        ("ldfa-p", 2 * N * R * (IN + OUT), oja(OUT)),
        ("ldfa", 2 * N * R * (IN + OUT), 2 * N * R * IN + oja(OUT)),
        ("ldfa-hebb", 2 * N * R * (IN + OUT), 2 * N * R * IN + 2 * OUT * IN * R),
        ("ldfa-track", 2 * N * R * (IN + OUT), 3 * 2 * OUT * IN * R),
        ("pfa", 2 * N * 10 * OUT * (IN + OUT), 2 * N * 10 * OUT * IN),
        ("dfa", 2 * N * 10 * IN, 0),
        ("dkp", 2 * N * 10 * IN, 2 * N * 10 * IN),
        ("drtp", 2 * N * 10 * IN, 0),
        ("ldfa-direct", 2 * N * R * (10 + IN), 2 * N * R * IN + oja(10)),
    ],
)
def test_a_linear_layer_by_hand(rule, error_path, feedback_update):
    assert linear(RULES.get(rule)()) == Flops(PAIR, error_path, PAIR, feedback_update)


class InPlace(Rule):
    """Writes the error into memory of its own, half by half, beside products that nobody reads."""

    def init_feedback(self, W, rank, generator):
        return {}

    def backward(self, signals, feedback):
        sent = torch.empty_like(signals.x)
        half = len(sent) // 2
        sent[:half] = signals.g[:half] @ signals.W
        sent[half:].copy_(signals.g[half:] @ signals.W)
        signals.g @ signals.W
        return sent.view(sent.shape), {}


def test_an_error_path_through_views_and_memory_written_in_place():
    assert linear(InPlace()) == Flops(PAIR, PAIR, PAIR, PAIR)


@pytest.mark.parametrize("rule", ["bp", "ldfa-q"])
def test_a_convolution_by_hand(rule):
    """Of 3 x 3 at stride 2: 4 x 4 positions of 7 x 7. At rank 3 each position sends 3 numbers."""
    layer = Conv2d.from_plain(nn.Conv2d(5, 6, 3, 2, 1), RULES.get(rule)(), R, Generator().manual_seed(0), None, None)
    x, g = torch.randn(N, 5, 7, 7), torch.randn(N, 6, 4, 4)
    product = 2 * N * 4 * 4 * 5 * 6 * 9
    low = 2 * N * 4 * 4 * R * 5 * 9
    project = 2 * N * 4 * 4 * 6 * R
    expected = {"bp": Flops(product, product, product, 0), "ldfa-q": Flops(product, project + low, product, low)}
    assert cost(layer, Signals(layer.operator, layer.weight, x, g)) == expected[rule]


CONFIG = Config(model="mlp", dataset="digits", rule="ldfa", rank="3", model_options={"width": 16}, batch_size=N)


@pytest.mark.parametrize("rule", RULES.names())
def test_the_layers_and_the_first_are_the_whole_step(rule):
    config = replace(CONFIG, rule=rule, rank="3" if RULES.get(rule).ranked else None)
    data = load("digits", 0)
    learner, batch = build(config, data), first_batch(config, data)
    found = flops_by_layer(learner, *batch)
    assert list(found) == ["B1", "B2", "B3"]
    assert sum(total(found)) + 2 * (2 * N * 64 * 16) == flops_of_step(config, learner, *batch)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_transformer_by_hand(dropout):
    """Of 4 tokens. A layer has three products, of which the first sends no error down; attention has two of its own."""
    options = {"patch": 4, "width": 8, "depth": 3, "heads": 2, "dropout": dropout}
    config = replace(CONFIG, model="vit", rule="bp", rank=None, model_options=options)
    data = load("digits", 0)
    tokens = N * 4
    embedding, head = 2 * tokens * 16 * 8, 2 * N * 8 * 10
    block = 2 * tokens * (8 * 24 + 8 * 8 + 8 * 16 + 16 * 8)
    attention = 2 * (2 * tokens * 4 * 8)
    whole = 2 * embedding + 3 * (3 * (block + attention) + head)
    assert flops_of_step(config, build(config, data), *first_batch(config, data)) == whole


@pytest.mark.parametrize(
    ("rule", "parameters", "error_path"), [("bp", 0, 1), ("ldfa", 20 / 512, 20 / 512), ("pfa", 20, 20)]
)
def test_the_example_of_the_catalogue(rule, parameters, error_path):
    assert example(RULES.get(rule)()) == (parameters, error_path)
