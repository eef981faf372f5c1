"""Networks of torchvision, timm and transformers, random weights, under the rules: exact, or refused by name.

Of each: `bp` gives the gradients of the plain network; under `ldfa` a step trains, and the error that each layer sends
down does not follow its weight; `revert` gives back the same objects.
"""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import segmentation

import bench
from bench import layers
from bench.layers import MultiheadAttention, RuleLayer
from bench.operators import LinearOperator

SIDE = 32


def vision(name, side=SIDE, **options):
    return getattr(models, name)(weights=None, num_classes=4, **options), torch.randn(2, 3, side, side)


def with_a_small_classifier(name, width):
    """Its classifier is 64 wide in place of 4096."""
    network, x = vision(name, 64)
    sizes = iter([(width, 64), (64, 64), (64, 4)])
    for index, layer in enumerate(network.classifier):
        if isinstance(layer, nn.Linear):
            network.classifier[index] = nn.Linear(*next(sizes))
    return network, x


def maxvit():
    """maxvit_t with fewer and narrower blocks."""
    sizes = {"stem_channels": 8, "block_channels": [8, 16], "block_layers": [1, 1], "head_dim": 8, "partition_size": 2}
    return models.MaxVit((64, 64), **sizes, stochastic_depth_prob=0.0, num_classes=4), torch.randn(2, 3, 64, 64)


def vit():
    """vit_b_16 with two narrow blocks."""
    network = models.VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4)
    return network, torch.randn(2, 3, 32, 32)


def swin(version, block):
    """swin_t with two narrow stages."""
    blocks = {"embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2], "window_size": [4, 4], "num_classes": 4}
    blocks |= {"block": getattr(models.swin_transformer, block), "stochastic_depth_prob": 0.0}
    merging = {"downsample_layer": models.swin_transformer.PatchMergingV2} if version == 2 else {}
    return models.SwinTransformer([4, 4], **blocks, **merging), torch.randn(2, 3, SIDE, SIDE)


def lraspp():
    network = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    return network, torch.randn(2, 3, SIDE, SIDE)


NO_AUX = {"aux_logits": False, "init_weights": False}
TORCHVISION = {
    "alexnet": partial(with_a_small_classifier, "alexnet", 256 * 36),
    "vgg11_bn": partial(with_a_small_classifier, "vgg11_bn", 512 * 49),
    "resnet18": partial(vision, "resnet18"),
    "resnet50": partial(vision, "resnet50"),
    "densenet121": partial(vision, "densenet121"),
    "googlenet": partial(vision, "googlenet", **NO_AUX),
    "inception_v3": partial(vision, "inception_v3", 75, **NO_AUX),
    "mobilenet_v2": partial(vision, "mobilenet_v2"),
    "mobilenet_v3_small": partial(vision, "mobilenet_v3_small"),
    "efficientnet_b0": partial(vision, "efficientnet_b0"),
    "convnext_tiny": partial(vision, "convnext_tiny"),
    "regnet_y_400mf": partial(vision, "regnet_y_400mf"),
    "shufflenet_v2_x0_5": partial(vision, "shufflenet_v2_x0_5"),
    "squeezenet1_1": partial(vision, "squeezenet1_1"),
    "mnasnet0_5": partial(vision, "mnasnet0_5"),
    "vit_b_16": vit,
    "swin_t": partial(swin, 1, "SwinTransformerBlock"),
    "swin_v2_t": partial(swin, 2, "SwinTransformerBlockV2"),
    "maxvit_t": maxvit,
    "lraspp_mobilenet_v3_large": lraspp,
}
TABLES = ("vit_b_16", "swin_t", "maxvit_t")
"""Networks with tables of positions, which stay plain."""


def output_of(network, x):
    """The output of a network as one tensor."""
    y = network(x)
    return y if isinstance(y, torch.Tensor) else y["out"] if "out" in y else y["logits"]


def gradients(network, x):
    network.zero_grad()
    output_of(network, x).square().mean().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None and ".feedback." not in name}


def check(network, x):
    """Returns the report under `ldfa`."""
    torch.manual_seed(0)
    network.eval()
    objects = [*network.modules(), *network.parameters()]
    expected = gradients(network, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = gradients(bench.convert(network, "bp"), x)
        bench.revert(network)
        largest = max(gradient.abs().max().item() for gradient in expected.values())
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * largest)
        bench.convert(network, "ldfa", 2)
    report = bench.conversion_report(network)
    under = gradients(network, x)
    assert under.keys() == expected.keys() and all(g.isfinite().all() for g in under.values())
    for layer in network.modules():
        if isinstance(layer, RuleLayer):
            assert_error_does_not_follow_the_weight(layer)
    bench.revert(network)
    assert all(a is b for a, b in zip([*network.modules(), *network.parameters()], objects, strict=True))
    return report


def assert_error_does_not_follow_the_weight(layer):
    """With its own sizes, a few positions and one example."""
    op, call = layer.operator, layer
    if isinstance(layer, MultiheadAttention):
        op, call = op.group, lambda x: torch.stack(layer.project(x, x, x))
    channels = op.canonical(layer.weight).shape[1] * op.groups
    kernel = zip(op.dilation, op.kernel_size, strict=True) if op.example_dimensions > 1 else ()
    size = [dilation * (length - 1) + 1 for dilation, length in kernel]
    x = torch.randn(1, channels, *size, requires_grad=True)
    error, sent = torch.randn_like(call(x)), []
    for _ in range(2):
        sent += torch.autograd.grad(call(x), x, error)
        layer.weight.data.add_(1)
    assert torch.equal(*sent), layer.label


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_network_of_torchvision(name):
    torch.manual_seed(0)
    network, x = TORCHVISION[name]()
    report = check(network, x)
    assert (report.share_plain > 0) == (name in TABLES) and report.share_plain < 0.1, report


@pytest.fixture
def conv1d(monkeypatch):
    """The Conv1D of transformers, not registered."""
    kind = pytest.importorskip("transformers").pytorch_utils.Conv1D
    monkeypatch.delitem(layers.LAYERS, kind, raising=False)
    layers.layer_class.cache_clear()
    yield kind
    layers.layer_class.cache_clear()


def test_a_gpt_2_has_every_matrix_under_the_rule_once_its_layer_is_registered(conv1d):
    from transformers import GPT2Config, GPT2LMHeadModel

    network = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2))
    tokens = torch.randint(20, (2, 6))
    with pytest.warns(UserWarning, match="stay plain"):
        bench.revert(bench.convert(network, "ldfa", 2))
    bench.register_layer(conv1d, lambda layer: LinearOperator(transposed=True))
    report = check(network, tokens)
    assert len(report.under) == 2 * 4 + 1
    assert set(report.plain) == {"transformer.wpe"}


def bert():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    network = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=20, max_position_embeddings=8, **sizes))
    return network, torch.randint(20, (2, 6))


def convnext():
    transformers = pytest.importorskip("transformers")
    config = transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_labels=4)
    return transformers.ConvNextForImageClassification(config), torch.randn(2, 3, SIDE, SIDE)


def efficientnet():
    transformers = pytest.importorskip("transformers")
    sizes = {"width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320}
    config = transformers.EfficientNetConfig(**sizes, num_labels=4)
    return transformers.EfficientNetForImageClassification(config), torch.randn(2, 3, SIDE, SIDE)


def of_timm(name):
    timm = pytest.importorskip("timm")
    return timm.create_model(name, num_classes=4), torch.randn(2, 3, SIDE, SIDE)


OTHERS = {
    "bert": bert,
    "convnext": convnext,
    "efficientnet": efficientnet,
    "timm convnext": partial(of_timm, "convnext_atto"),
    "timm efficientnet": partial(of_timm, "efficientnet_lite0"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_network_of_transformers_or_timm(name):
    torch.manual_seed(0)
    report = check(*OTHERS[name]())
    kinds = {reason.split(":")[0] for reason, _ in report.plain.values()}
    assert kinds <= {"Embedding"}, report
    if name == "bert":
        assert "shares its weight with bert.embeddings.word_embeddings" in str(report)
