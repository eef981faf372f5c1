"""Every rule learns on every network: at least three times chance on the digits, with the settings of scale quick."""

from functools import cache

import pytest

from bench.data import load
from bench.protocols import configure
from bench.rules import RULES
from bench.train import train

RANKS = {"mlp": "10", "cnn": "1/4", "vit": "8", "retina": "1/2"}
CHANCE = 10.0

digits = cache(load)


@pytest.mark.parametrize("rule", RULES.names())
@pytest.mark.parametrize("model", RANKS)
def test_every_rule_learns_on_every_network(model, rule):
    config = configure(model, rule, "quick", rank=RANKS[model] if RULES.get(rule).ranked else None)
    assert train(config, loader=digits).final["accuracy"] >= 3 * CHANCE
