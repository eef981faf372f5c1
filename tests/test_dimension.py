"""Dimension of the activity: known covariances, batch by batch, and no trace in training."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Generator

from bench.config import Config
from bench.data import load_once
from bench.records.store import Store
from bench.sweeps.groups import run
from bench.training.batches import Batches
from bench.training.dimension import Moments, dimension, measure
from bench.training.learner import build
from bench.training.loop import train, train_together

CONFIG = Config(model="mlp", dataset="digits", rule="ldfa", rank="3", model_options={"width": 16}, epochs=2)


def of(*parts):
    moments = Moments()
    for part in parts:
        moments.add(part)
    return dimension(moments.covariance)


def gaussian(n, k, seed=0):
    return torch.randn(n, k, generator=Generator().manual_seed(seed))


def test_an_isotropic_gaussian_has_its_number_of_dimensions_wherever_it_lies():
    basis = torch.linalg.qr(gaussian(40, 7, seed=1)).Q
    found = of(gaussian(20_000, 7) @ basis.T + 5)
    assert found == pytest.approx({"participation_ratio": 7, "effective_rank": 7}, rel=0.01)


def test_unequal_variances_by_hand():
    assert dimension(torch.diag(torch.tensor([3.0, 1.0]))) == {
        "participation_ratio": pytest.approx(16 / 10, rel=1e-5),
        "effective_rank": pytest.approx(4 / 3**0.75, rel=1e-5),
    }


def test_activity_along_one_direction_has_one_dimension_and_constant_activity_none():
    one = of(torch.outer(gaussian(500, 1)[:, 0], gaussian(30, 1)[:, 0]) + 3)
    assert one == pytest.approx({"participation_ratio": 1, "effective_rank": 1}, abs=1e-3)
    assert of(torch.zeros(10, 4)) == {"participation_ratio": None, "effective_rank": None}


def test_scale_and_batches_change_nothing():
    rows = gaussian(1000, 6) * torch.tensor([3.0, 2.0, 1.0, 1.0, 0.5, 0.1])
    whole = of(rows)
    assert of(1e-3 * rows) == of(1e4 * rows) == whole
    assert of(*rows.split(64)) == whole


@pytest.mark.parametrize(
    ("config", "label", "receives"),
    [
        (CONFIG, "B1", lambda network, x: network.hidden[0](x.flatten(1))),
        (
            replace(CONFIG, model="cnn", rank="1/4", model_options={"width": 4}),
            "B1",
            lambda network, x: network.blocks[0](x).movedim(1, -1).flatten(0, 2),
        ),
        (
            replace(CONFIG, model="vit", rank="3", model_options={"width": 8, "depth": 1, "heads": 2}),
            "qkv1",
            lambda network, x: (
                network.blocks[0].norm1(network.embed(x).flatten(2).transpose(1, 2) + network.position).flatten(0, 1)
            ),
        ),
    ],
    ids=["mlp", "cnn", "vit"],
)
@torch.no_grad()
def test_a_layer_has_the_dimension_of_all_that_it_receives_from_the_test_images(config, label, receives):
    data = load_once("digits", 0)
    learner = build(config, data)
    measured = measure(learner, Batches(data.test, data, config))
    assert list(measured) == list(learner.layers)
    whole = Batches(data.test, data, replace(config, batch_size=0))
    ((images, _),) = whole.in_order()
    rows = receives(learner.network.eval(), images).double()
    assert measured[label] == pytest.approx(dimension(torch.cov(rows.T)), rel=1e-4)
    assert len(data.test) > config.batch_size


def test_a_run_that_is_measured_is_the_run_that_is_not(tmp_path):
    plain, measured = train(CONFIG), train(replace(CONFIG, measure_dimension=True))
    assert (measured.first_losses, measured.history, measured.final) == (plain.first_losses, plain.history, plain.final)
    assert plain.dimension == {} and list(measured.dimension) == ["B1", "B2", "B3"]
    record = run(replace(CONFIG, measure_dimension=True), Store(tmp_path), "run", "quick", "cpu")
    assert record["dimension"] == json.loads(json.dumps(measured.dimension))
    assert "dimension" not in run(CONFIG, Store(tmp_path), "run", "quick", "cpu")


def test_members_of_a_population_are_measured_each():
    configs = [replace(CONFIG, measure_dimension=True, precision="float64", seed=seed) for seed in (0, 1)]
    together, alone = train_together(configs), [train(config) for config in configs]
    for member, one in zip(together, alone, strict=True):
        for label, numbers in one.dimension.items():
            assert member.dimension[label] == pytest.approx(numbers, rel=1e-4)
    assert together[0].dimension != together[1].dimension
