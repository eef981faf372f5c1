"""The networks: what they compute, which of their layers the rule takes over, and their full size."""

from itertools import pairwise

import pytest
import torch
from torch import Generator, nn

from bench.config import Config
from bench.conversion import convert_layers
from bench.data import load
from bench.data.base import Data, Split
from bench.errors import UsageError
from bench.models import MODELS
from bench.rules import RULES
from bench.training.learner import build


def pictures(channels=3, height=32, width=32):
    pixels = torch.randint(0, 256, (6, channels, height, width), generator=Generator().manual_seed(0))
    split = Split(pixels.to(torch.uint8), torch.arange(6))
    return Data("pictures", split, split, 10, {})


DATA = {"digits": load("digits"), "pictures": pictures()}
SMALL = {
    "mlp": {"width": 8, "dropout": 0.3},
    "cnn": {"width": 4},
    "vit": {"width": 16, "depth": 2, "heads": 4},
    "retina": {"channels": 3, "hidden": 8},
}
PLAIN = {
    "mlp": {"hidden.0.0"},
    "cnn": {"blocks.0.0", "classifier.0", "classifier.3"},
    "vit": {"embed"},
    "retina": {"retina.0"},
}

every_network = pytest.mark.parametrize("name", SMALL)
every_dataset = pytest.mark.parametrize("dataset", DATA)


def network(name, data=DATA["pictures"], **options):
    torch.manual_seed(0)
    return MODELS.get(name)(data, **(SMALL[name] | options))


def inputs(data):
    return data.train.inputs[:6].float() / 255


@every_network
@every_dataset
def test_outputs_of_an_example_depend_on_it_alone_in_eval_mode(name, dataset):
    x, model = inputs(DATA[dataset]), network(name, DATA[dataset])
    assert not torch.equal(model(x), model(x))
    outputs = model.eval()(x)
    assert outputs.shape == (6, 10) and torch.equal(outputs, model(x))
    torch.testing.assert_close(torch.cat([model(x[:2]), model(x[2:])]), outputs)


@every_network
def test_the_rule_takes_over_every_layer_but_the_plain_ones(name):
    model = network(name)
    layers = {name for name, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    taken = model.feedback_layers()
    assert sorted(taken.values()) == sorted(layers - PLAIN[name]) and PLAIN[name] < layers
    output = model.get_submodule(model.output_module)
    assert isinstance(output, nn.Linear) and output.out_features == 10


@every_network
@every_dataset
def test_under_bp_the_gradients_are_those_of_the_plain_network(name, dataset):
    """In training mode, where activations change in place."""
    x, gradients = inputs(DATA[dataset]).double(), []
    for under_rule in (False, True):
        model = network(name, DATA[dataset]).double()
        if under_rule:
            names = model.feedback_layers()
            convert_layers(model, names, RULES.get("bp")(), dict.fromkeys(names), Generator())
        torch.manual_seed(1)
        model(x).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    plain, ruled = gradients
    assert ruled.keys() == plain.keys()
    for name in plain:
        torch.testing.assert_close(ruled[name], plain[name], rtol=0, atol=1e-10)


def linear(inputs, outputs):
    return outputs * (inputs + 1)


def conv(inputs, outputs, kernel):
    return outputs * (inputs * kernel**2 + 1)


def normed(inputs, outputs, kernel):
    return conv(inputs, outputs, kernel) + 2 * outputs


def cnn_parameters():
    stages = [3, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = sum(normed(below, above, 3) for below, above in pairwise(stages))
    return blocks + linear(512, 256) + linear(256, 10)


def vit_parameters():
    norm = 2 * 384
    block = norm + linear(384, 3 * 384) + linear(384, 384) + norm + linear(384, 768) + linear(768, 384)
    return conv(3, 384, 4) + 64 * 384 + 8 * block + norm + linear(384, 10)


def retina_parameters(bottleneck=32):
    retina = normed(1, 32, 9) + normed(32, bottleneck, 9)
    return retina + normed(bottleneck, 32, 9) + 2 * normed(32, 32, 9) + linear(32_768, 1024) + linear(1024, 10)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("cnn", {}, cnn_parameters()),
        ("vit", {}, vit_parameters()),
        ("retina", {}, retina_parameters()),
        ("retina", {"bottleneck": 4}, retina_parameters(bottleneck=4)),
    ],
)
def test_parameters_at_full_size(name, options, expected):
    with torch.device("meta"):
        model = MODELS.get(name)(DATA["pictures"], **options)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(("rank", "qkv", "proj"), [("2", 6, 2), ("1/4", 12, 4), ("full", 16, 16), ("qkv1=3", 9, 16)])
def test_a_rank_given_as_a_number_is_tripled_for_qkv(rank, qkv, proj):
    config = Config(model="vit", dataset="digits", rule="ldfa", rank=rank, model_options=SMALL["vit"])
    layers = build(config, DATA["digits"]).layers
    assert (layers["qkv1"].rank, layers["proj1"].rank) == (qkv, proj)


def test_the_retina_sees_luminance():
    colour = inputs(DATA["pictures"])
    grey = (colour * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    models = [network("retina", pictures(channels), bottleneck=2).eval() for channels in (3, 1)]
    torch.testing.assert_close(models[0](colour), models[1](grey))
    assert models[1].retina(grey).shape == (6, 2, 32, 32)


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        ("cnn", pictures(1, 7, 9), {}, "images of 7 x 9 pixels are too small; expected: 8 x 8 or more"),
        ("mlp", DATA["digits"], {"dropout": 1}, "model mlp: dropout 1 is not allowed; expected: 0 or more, below 1"),
        ("mlp", DATA["digits"], {"dropout": -0.1}, "dropout -0.1 is not allowed"),
        ("vit", DATA["digits"], {"patch": 5}, "patch 5 does not divide images of 8 x 8 pixels"),
        ("vit", DATA["digits"], {"patch": 0}, "patch 0 does not divide"),
        ("vit", DATA["digits"], {"heads": 3}, "3 heads do not divide width 16"),
        ("vit", DATA["digits"], {"heads": 0}, "0 heads do not divide width 16"),
    ],
)
def test_what_a_network_cannot_be(name, data, options, message):
    with pytest.raises(UsageError) as error:
        network(name, data, **options)
    assert message in str(error.value) and "\n" not in str(error.value)
