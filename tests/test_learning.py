"""Every rule learns on every network: the accuracies that `replication.regression` holds fresh runs to say so."""

import pandas as pd
import pytest

from bench.models import MODELS
from bench.rules import RULES
from replication.regression import REFERENCE, grid

CHANCE = 10.0


@pytest.fixture(scope="module")
def reference():
    return pd.read_csv(REFERENCE).set_index(["network", "measure"]).sort_index()


@pytest.mark.parametrize("model", MODELS.built_in())
def test_every_rule_on_a_network_has_a_reference(model, reference):
    found = reference.loc[model, "log training loss"]
    assert set(found["setting"].str.partition(" ")[0]) == set(RULES.built_in())
    assert len(found) == len({config.setting for config in grid(model).configs("quick")})
    assert found["n"].min() >= 3


@pytest.mark.parametrize("model", [name for name in MODELS.built_in() if name != "linear"])
def test_every_rule_reaches_three_times_chance(model, reference):
    assert reference.loc[model, "accuracy (%)"]["mean"].min() >= 3 * CHANCE
