"""Every rule learns on every network: at least three times chance on the digits, with the settings of scale quick."""

import pandas as pd
import pytest

from bench.models import MODELS
from bench.rules import RULES
from bench.sweeps.protocols import configure
from bench.training.loop import train
from replication.regression import RANKS, REFERENCE, grid

CHANCE = 10.0
CLASSIFIERS = [name for name in MODELS.built_in() if name != "linear"]
BELOW = {("retina", "drtp"), ("vit", "drtp")}
"""Where a rule stays below that: on the ViT with every seed of the reference, on the retina with the first of three."""


@pytest.mark.slow
@pytest.mark.usefixtures("short_measures")
@pytest.mark.parametrize("rule", RULES.names())
@pytest.mark.parametrize("model", CLASSIFIERS)
def test_every_rule_learns_on_every_network(model, rule):
    if (model, rule) in BELOW:
        pytest.skip("it does not; what it reaches is in the reference")
    config = configure(model, rule, "quick", rank=RANKS[model] if RULES.get(rule).ranked else None)
    assert train(config).final["accuracy"] >= 3 * CHANCE


@pytest.fixture(scope="module")
def reference():
    return pd.read_csv(REFERENCE).set_index(["network", "measure"]).sort_index()


@pytest.mark.parametrize("model", MODELS.built_in())
def test_every_rule_on_a_network_has_a_reference(model, reference):
    found = reference.loc[model, "log training loss"]
    serving = {rule for rule in RULES.built_in() if RULES.get(rule)().serves(MODELS.get(model).regression)}
    assert set(found["setting"].str.partition(" ")[0]) == serving
    assert len(found) == len({config.setting for config in grid(model).configs("quick")})
    assert found["n"].min() >= 3


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_every_rule_reaches_three_times_chance(model, reference):
    means = reference.loc[model, "accuracy (%)"].set_index("setting")["mean"]
    assert {(model, rule) for rule in means.index[means < 3 * CHANCE]} <= BELOW
