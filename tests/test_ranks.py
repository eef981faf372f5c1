"""Ranks as users write them."""

from fractions import Fraction

import pytest

from bench.errors import UsageError
from bench.layers.ranks import parse_ranks

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
        ("1/4", [Fraction(1, 4)] * 3),
        ("0.5", [Fraction(1, 2)] * 3),
        ("B1=1/8,B3=1/1", [Fraction(1, 8), None, 1]),
    ],
)
def test_ranks_of_all_layers_or_of_some(spec, ranks):
    assert parse_ranks(spec, LABELS) == dict(zip(LABELS, ranks, strict=True))


@pytest.mark.parametrize("spec", ["0", 0, "-1", "ten", "", "010", "B1=", "B1=0", "B1=x", "B1=2,B3", "B1=2,"])
def test_a_rank_that_is_no_whole_number_from_1(spec):
    with pytest.raises(UsageError, match=r"^--rank .*(a whole number from 1|no layer)") as error:
        parse_ranks(spec, LABELS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", ["1.5", "3/2", "0/4", "0.0", "1/0", "-1/4", "B1=5/4"])
def test_a_fraction_outside_0_to_1(spec):
    with pytest.raises(UsageError, match=r"^--rank .* a fraction in \(0, 1\]"):
        parse_ranks(spec, LABELS)


@pytest.mark.parametrize("spec", ["1.0", "B1=1.0"])
def test_one_as_a_decimal_could_mean_two_ranks(spec):
    with pytest.raises(UsageError, match=r"^--rank 1\.0: rank 1, or all channels\? expected: 1 or 'full'"):
        parse_ranks(spec, LABELS)


def test_a_layer_that_does_not_exist():
    with pytest.raises(UsageError, match=r"^--rank B4=2: no layer 'B4'; expected: B1, B2, B3$"):
        parse_ranks("B4=2", LABELS)


def test_a_layer_has_one_rank():
    with pytest.raises(UsageError, match="layer 'B1' is given twice"):
        parse_ranks("B1=2,B1=3", LABELS)
