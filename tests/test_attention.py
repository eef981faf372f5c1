"""Layers that are read where others are called: `nn.MultiheadAttention`, and modules that use `F.linear`."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import bench
from bench import layers
from bench.errors import UsageError
from bench.layers import MultiheadAttention, RuleLayer, reading
from bench.rules import RULES

WIDTH, HEADS = 8, 2
LENGTH, EXAMPLES = 4, 3
LAYERWISE = {name: rule for name in RULES.built_in() if not (rule := RULES.get(name)()).direct}
DETERMINED = [name for name, rule in LAYERWISE.items() if not rule.draws]


def attention(**options):
    torch.manual_seed(0)
    return nn.MultiheadAttention(WIDTH, HEADS, **({"dtype": torch.float64, "batch_first": True} | options))


def inputs(attention, length=LENGTH, batched=True):
    shape = (length, EXAMPLES, WIDTH)[:: 1 if batched else 2]
    x = torch.randn(shape, dtype=attention.in_proj_weight.dtype)
    return x.transpose(0, 1) if attention.batch_first and batched else x


def passed(attention, query, key, value, **options):
    """Outputs, attention weights, and all gradients of one pass, by object."""
    attention.zero_grad()
    leaves = {id(x): x.clone().requires_grad_() for x in (query, key, value)}
    output, weights = attention(*(leaves[id(x)] for x in (query, key, value)), **options)
    (output.square().sum() + (0 if weights is None else weights.square().sum())).backward()
    found = {name: p.grad for name, p in attention.named_parameters() if ".feedback." not in f".{name}"}
    return output.detach(), weights, found, [x.grad for x in leaves.values()]


def masks(kind, keys, batched):
    if kind == "none":
        return {}
    if kind == "padding":
        padded = torch.zeros(keys if not batched else (EXAMPLES, keys), dtype=torch.bool)
        padded[..., -1] = True
        return {"key_padding_mask": padded}
    if kind == "per head":
        return {"attn_mask": torch.randn(HEADS * (EXAMPLES if batched else 1), LENGTH, keys, dtype=torch.float64)}
    return {"attn_mask": torch.ones(LENGTH, keys, dtype=torch.bool).triu(1)}


OPTIONS = [{}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"batch_first": False}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("rule", ["bp", "fa"])
def test_with_the_weights_as_feedback_it_is_the_plain_attention(rule, options):
    """Of itself and of others, with every mask, batched or not, with attention weights and without."""
    network = nn.Sequential(attention(**options))
    (layer,) = network
    kinds = ["none", "padding", "per head", "causal"]
    for kind, batched, itself, weights in itertools.product(kinds, (True, False), (True, False), (True, False)):
        query = inputs(layer, batched=batched)
        key = query if itself else inputs(layer, LENGTH - 1, batched)
        value = key if itself else inputs(layer, LENGTH - 1, batched)
        given = masks(kind, key.shape[-2] if layer.batch_first or not batched else len(key), batched)
        expected = passed(layer, query, key, value, need_weights=weights, **given)
        bench.convert(network, rule)
        assert type(layer) is MultiheadAttention and isinstance(layer.out_proj, RuleLayer)
        if rule == "fa":
            layer.feedback["B"].data.copy_(layer.in_proj_weight.data.unflatten(0, (3, -1)))
            layer.out_proj.feedback["B"].data.copy_(layer.out_proj.weight.data)
        found = passed(layer, query, key, value, need_weights=weights, **given)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        bench.revert(network)
        assert type(layer) is nn.MultiheadAttention and not isinstance(layer.out_proj, RuleLayer)


@pytest.mark.parametrize("rule", DETERMINED)
def test_each_projection_is_a_linear_layer_with_feedback_of_its_own(rule):
    """The error of all three, and the gradients, are those of three layers beside each other."""
    rank = 2 if RULES.get(rule).ranked else None
    packed = bench.convert(nn.Sequential(attention()), rule, rank)[0]
    query, key, value = (inputs(packed).requires_grad_() for _ in range(3))
    errors = [torch.randn_like(query) for _ in range(3)]
    torch.autograd.backward(packed.project(query, key, value), errors)
    for n, (x, error) in enumerate(zip((query, key, value), errors, strict=True)):
        single = layers.Linear(WIDTH, WIDTH, rule=rule, rank=rank, dtype=torch.float64)
        single.weight.data.copy_(packed.in_proj_weight.data[n * WIDTH : (n + 1) * WIDTH])
        for name, tensor in single.feedback.items():
            tensor.data.copy_(packed.feedback[name].data[n])
        alone = x.detach().clone().requires_grad_()
        single(alone).backward(error)
        torch.testing.assert_close(x.grad, alone.grad)
        torch.testing.assert_close(packed.in_proj_weight.grad[n * WIDTH : (n + 1) * WIDTH], single.weight.grad)
        torch.testing.assert_close(packed.in_proj_bias.grad[n * WIDTH : (n + 1) * WIDTH], single.bias.grad)
        for name, tensor in single.feedback.items():
            found = packed.feedback[name].grad
            assert (found is None) == (tensor.grad is None)
            if found is not None:
                torch.testing.assert_close(found[n], tensor.grad)


@pytest.mark.parametrize("rule", ["dfa", "ldfa-direct"])
@pytest.mark.parametrize("positions", [EXAMPLES, LENGTH])
def test_a_direct_rule_finds_the_examples_first(rule, positions):
    """Also where there are as many positions as examples: each hears its own error."""

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = attention(), nn.Linear(WIDTH, 5, dtype=torch.float64)

        def forward(self, x):
            return self.head(x + self.attention(x, x, x)[0])

    def sent(x):
        network.zero_grad()
        network(x).square().sum().backward()
        return [p.grad.clone() for p in (network.attention.in_proj_weight, network.attention.out_proj.weight)]

    network = bench.convert(Tagger(), rule)
    x = torch.randn(EXAMPLES, positions, WIDTH, dtype=torch.float64)
    together, alone = sent(x), [sent(one[None]) for one in x]
    if rule == "dfa":
        torch.testing.assert_close(together, [sum(parts) for parts in zip(*alone, strict=True)])


def test_what_is_saved_copied_and_reported():
    network = bench.convert(nn.Sequential(attention()), "ldfa", 2)
    plain, feedback = attention().state_dict().keys(), {"feedback.P", "feedback.Q"}
    assert network[0].state_dict().keys() == plain | feedback | {f"out_proj.{name}" for name in feedback}
    assert network[0].feedback["P"].shape == (3, WIDTH, 2) and network[0].feedback["Q"].shape == (3, 2, WIDTH)
    twin, x = copy.deepcopy(network), inputs(network[0])
    torch.testing.assert_close(passed(twin[0], x, x, x), passed(network[0], x, x, x))
    report = bench.conversion_report(network)
    assert report.under["0"] == ("MultiheadAttention", "ldfa, rank 2", 6 * WIDTH * 2)
    assert report.weights_under == 4 * WIDTH * WIDTH and report.share_plain == 0


@pytest.mark.parametrize("exclude", ["0", lambda name, layer: isinstance(layer, nn.MultiheadAttention)])
def test_an_attention_that_is_left_out_takes_its_output_along(exclude):
    with pytest.warns(UserWarning, match="94% of the weights stay plain"):
        network = bench.convert(nn.Sequential(attention(), nn.Linear(WIDTH, 2)), "fa", exclude=exclude)
    assert [name for name, layer in network.named_modules() if isinstance(layer, RuleLayer)] == ["1"]
    only_out = bench.convert(nn.Sequential(attention()), "fa", exclude="0.out_proj")[0]
    assert isinstance(only_out, RuleLayer) and not isinstance(only_out.out_proj, RuleLayer)
    x = inputs(only_out)
    only_out(x, x, x)[0].sum().backward()


def test_keys_of_another_width_stay_plain_and_are_named():
    network = bench.convert(nn.Sequential(nn.Linear(40, 40), attention(kdim=6, vdim=6, dtype=torch.float32)), "fa")
    report = bench.conversion_report(network)
    assert list(report.under) == ["0"] and "kdim or vdim" in report.plain["1"][0]
    assert report.plain["1.out_proj"][0].endswith("MultiheadAttention reads its weight without calling it")


def test_a_packed_weight_that_other_code_reads_too_is_noticed():
    network = bench.convert(nn.Sequential(attention()), "ldfa", 2)
    x = inputs(network[0])
    with pytest.raises(UsageError, match="the weights of '0' are read by other code"):
        (network[0](x, x, x)[0].sum() + F.linear(x, network[0].in_proj_weight).sum()).backward()


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer_of_pytorch(norm_first):
    """Every matrix is under the rule; without gradients PyTorch's fast path gives the same."""
    block = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, 0.0, batch_first=True, norm_first=norm_first)
    network = nn.TransformerEncoder(block, 2, enable_nested_tensor=False).eval()
    bench.convert(network, "ldfa", 2)
    report = bench.conversion_report(network)
    assert len(report.under) == 2 * 4 and not report.plain
    x = torch.randn(EXAMPLES, LENGTH, WIDTH)
    output = network(x)
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(network(x), output)


def test_checkpoints_functional_calls_and_export():
    block = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, 0.0, batch_first=True, dtype=torch.float64)
    network = bench.convert(nn.Sequential(block), "ldfa", 2)
    x = torch.randn(EXAMPLES, LENGTH, WIDTH, dtype=torch.float64)

    def loss(values):
        return functional_call(network, values, x).tanh().sum()

    def gradients(forward):
        network.zero_grad()
        forward(x).tanh().sum().backward()
        return {name: p.grad for name, p in network.named_parameters()}

    expected = gradients(network)
    torch.testing.assert_close(gradients(lambda x: checkpoint(network, x, use_reentrant=False)), expected)
    torch.testing.assert_close(grad(loss)({name: p.detach() for name, p in network.named_parameters()}), expected)
    torch.testing.assert_close(torch.export.export(network, (x,)).module()(x), network(x))


class Reads(nn.Module):
    """Multiplies by the weight of its layer, with a bias of its own making."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        hidden = F.linear(x, weight=self.qkv.weight, bias=2 * self.qkv.bias).tanh()
        return F.linear(hidden, self.out.weight, self.out.bias)


def test_a_module_that_reads_the_weights_of_its_layers_goes_through_them_once_registered(monkeypatch):
    monkeypatch.setattr(reading, "READERS", set(reading.READERS))
    network, x = nn.Sequential(Reads()), torch.randn(3, WIDTH)
    network(x).square().sum().backward()
    expected = [p.grad for p in network.parameters()]
    network.zero_grad()
    with pytest.raises(UsageError, match=r"are read by other code, .*bench\.register_reader"):
        bench.convert(network, "fa")(x).sum().backward()
    bench.revert(network)
    bench.register_reader(Reads)
    for rule in ("bp", "fa"):
        bench.convert(network, rule)
        for layer in (network[0].qkv, network[0].out):
            if rule == "fa":
                layer.feedback["B"].data.copy_(layer.weight.data)
        twin = copy.deepcopy(network)
        for each in (network, twin):
            each.zero_grad()
            each(x).square().sum().backward()
            torch.testing.assert_close([p.grad for n, p in each.named_parameters() if "feedback" not in n], expected)
        assert type(bench.revert(network)[0]) is Reads


def test_only_types_of_modules_are_registered():
    with pytest.raises(UsageError, match="register_reader: 3 is not a module type"):
        bench.register_reader(3)


@pytest.mark.parametrize(
    "parametrization", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.orthogonal]
)
def test_a_registered_reader_goes_through_layers_that_were_parametrized_afterwards(monkeypatch, parametrization):
    monkeypatch.setattr(reading, "READERS", {*reading.READERS, f"{__name__}.Reads"})
    network, x = bench.convert(nn.Sequential(nn.Linear(WIDTH, WIDTH), Reads()), "fa"), torch.randn(3, WIDTH)
    x.requires_grad_()
    for layer in (network[1].qkv, network[1].out):
        parametrization(layer)
    sent = []
    network[0].register_full_backward_hook(lambda module, inputs, outputs: sent.append(outputs[0]))
    network(x).sum().backward()
    derivative = 1 - F.linear(network[0](x), network[1].qkv.weight, 2 * network[1].qkv.bias).tanh() ** 2
    error = (torch.ones(3, WIDTH) @ network[1].out.feedback.B) * derivative
    torch.testing.assert_close(sent[0], error @ network[1].qkv.feedback.B)


def test_an_empty_batch_passes_attention():
    layer = bench.convert(attention(), "fa")
    x = torch.zeros(0, 4, WIDTH, dtype=torch.float64, requires_grad=True)
    layer(x, x, x)[0].sum().backward()
    assert x.grad.shape == x.shape and not layer.in_proj_weight.grad.any()


def test_a_direct_rule_refuses_attention_with_the_examples_second():
    block = nn.TransformerEncoderLayer(WIDTH, HEADS, 16)
    network = nn.Sequential(block, nn.Linear(WIDTH, 2))
    recurrent = nn.Sequential(nn.Linear(3, 8), nn.GRU(8, 8), nn.Linear(8, 2))
    for refused, second, exclude in [
        (network, "0.self_attn", ()),
        (network, "0.self_attn", "0.self_attn"),
        (recurrent, "1", ()),
    ]:
        with pytest.raises(UsageError, match=f"^'{second}' has the examples second.*: build it with batch_first=True$"):
            bench.convert(refused, "dfa", exclude=exclude)
    assert not any(isinstance(module, RuleLayer) for module in network.modules())
    bench.convert(nn.Sequential(nn.TransformerEncoderLayer(WIDTH, HEADS, 16), nn.Linear(WIDTH, 2)), "fa")
    with pytest.warns(UserWarning, match="stay plain"):
        bench.convert(network, "dfa", exclude="0")
