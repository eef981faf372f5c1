"""Putting a network under a rule: which layers, at which rank, with which weights."""

import pytest
import torch
from torch import Generator, nn

from bench.convert import convert, parse_ranks
from bench.errors import UsageError
from bench.layers import Linear
from bench.rules import RULES

LABELS = ["B1", "B2", "B3"]


@pytest.mark.parametrize(
    ("spec", "ranks"),
    [
        (None, [None, None, None]),
        ("full", [None, None, None]),
        ("10", [10, 10, 10]),
        (10, [10, 10, 10]),
        ("B2=4", [None, 4, None]),
        ("B1=10,B3=4", [10, None, 4]),
        ("B3=4,B1=10", [10, None, 4]),
    ],
)
def test_ranks_of_all_layers_or_of_some(spec, ranks):
    assert parse_ranks(spec, LABELS) == dict(zip(LABELS, ranks, strict=True))


@pytest.mark.parametrize("spec", ["0", 0, "-1", "1.5", "ten", "", "010", "B1=", "B1=0", "B1=x", "B1=2,B3", "B1=2,"])
def test_a_rank_that_is_no_whole_number_from_1(spec):
    with pytest.raises(UsageError, match=r"^--rank .*(a whole number from 1|no layer)") as error:
        parse_ranks(spec, LABELS)
    assert "\n" not in str(error.value)


def test_a_layer_that_does_not_exist():
    with pytest.raises(UsageError, match=r"^--rank B4=2: no layer 'B4'; allowed: B1, B2, B3$"):
        parse_ranks("B4=2", LABELS)


def converted(rule, **ranks):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 4, bias=False)))
    plain = [network[0].weight, network[0].bias, network[2][0].weight]
    names = {"B1": "0", "B2": "2.0"}
    layers, notes = convert(network, names, RULES.get(rule)(), {"B1": None, "B2": None} | ranks, Generator(), clip=0.5)
    return network, plain, layers, notes


@pytest.mark.parametrize("rule", RULES.names())
def test_layers_are_replaced_and_weights_kept(rule):
    network, plain, layers, _ = converted(rule)
    assert [network[0], network[2][0]] == list(layers.values())
    assert all(type(layer) is Linear and layer.clip == 0.5 for layer in layers.values())
    assert all(a is b for a, b in zip(plain, [network[0].weight, network[0].bias, network[2][0].weight], strict=True))
    assert network[2][0].bias is None


def test_a_rank_above_full_rank_is_capped_with_a_note():
    _, _, layers, notes = converted("ldfa", B1=3, B2=9)
    assert [tuple(layer.feedback["P"].shape) for layer in layers.values()] == [(5, 3), (4, 4)]
    assert notes == ["rank 9 of B2 capped at 4, its full rank"]


def test_full_rank_is_no_note():
    _, _, layers, notes = converted("ldfa", B1=5)
    assert [layer.rank for layer in layers.values()] == [5, 4]
    assert notes == []


def test_a_rule_without_rank_has_no_note():
    assert converted("kp", B1=9)[3] == []


def test_a_layer_has_one_rank():
    with pytest.raises(UsageError, match="layer 'B1' is there twice"):
        parse_ranks("B1=2,B1=3", LABELS)
