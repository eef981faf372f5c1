"""Putting a network under a rule: which layers, at which rank, with which weights."""

import copy
from fractions import Fraction

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional as F
from torchvision.models import resnet18

import bench
from bench.conversion import convert_layers
from bench.errors import UsageError
from bench.layers import LAYERS, Conv2d, Linear, RuleLayer, layer_class
from bench.layers._registry import blank
from bench.rules import RULES


def converted(rule, **ranks):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 4, bias=False)))
    plain = [network[0].weight, network[0].bias, network[2][0].weight]
    names = {"B1": "0", "B2": "2.0"}
    ranks = {"B1": None, "B2": None} | ranks
    layers, notes = convert_layers(network, names, RULES.get(rule)(), ranks, Generator(), output="2.0", clip=0.5)
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


def test_a_fraction_is_of_the_output_channels():
    _, _, layers, notes = converted("ldfa", B1=Fraction(2, 5), B2=Fraction(1, 100))
    assert [layer.rank for layer in layers.values()] == [2, 1]
    assert notes == []


def resnet():
    torch.manual_seed(0)
    return resnet18(num_classes=4)


@pytest.mark.parametrize("rule", ["fa", "kp", "wm", "frsf", "dfa", "dkp", "drtp", "pfa"])
def test_feedback_does_not_depend_on_weights_that_were_drawn_with_its_seed(rule):
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(3)))
    bench.convert(network, rule, seed=0)
    for layer in network:
        for tensor in layer.feedback.values():
            size = min(tensor.numel(), layer.weight.numel())
            one, other = (each.detach().flatten()[:size].abs() for each in (tensor, layer.weight))
            assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.5


def images():
    """16 images of 4 classes, each class of a colour of its own."""
    labels = torch.arange(16) % 4
    colours = torch.randn(4, 3, generator=Generator().manual_seed(1))
    noise = torch.randn(16, 3, 32, 32, generator=Generator().manual_seed(2))
    return colours[labels][:, :, None, None] + 0.5 * noise, labels


def plain_layers(module):
    return [name for name, layer in module.named_modules() if type(layer) in (nn.Linear, nn.Conv2d)]


@pytest.mark.parametrize("rule", ["ldfa", "dfa"])
def test_resnet_18_learns(rule):
    network = bench.convert(resnet(), rule, 4 if rule == "ldfa" else None, exclude=["conv1"])
    assert plain_layers(network) == ["conv1"]
    x, labels = images()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(network(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def gradients(network):
    x, labels = images()
    F.cross_entropy(network(x.double()), labels).backward()
    return {name: p.grad for name, p in network.named_parameters() if ".feedback." not in name}


def test_fa_with_the_forward_weights_is_autograd_end_to_end():
    expected = gradients(resnet().double())
    network = bench.convert(resnet().double(), "fa")
    for layer in network.modules():
        if isinstance(layer, RuleLayer):
            layer.feedback["B"].data.copy_(layer.weight.data)
    found = gradients(network)
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=0, atol=1e-10)


def test_there_and_back():
    network = resnet().eval()
    x, _ = images()
    before, layers = network(x), plain_layers(network)
    assert torch.equal(bench.convert(network, "ldfa-hebb", "1/4")(x), before)
    assert plain_layers(network) == []
    assert torch.equal(bench.revert(network)(x), before)
    assert plain_layers(network) == layers
    assert str(network) == str(resnet())


def test_ranks_and_exclusions_by_name():
    with pytest.warns(UserWarning, match="75% of the weights stay plain"):
        network = bench.convert(resnet(), "ldfa", {"fc": 2, "layer1.0.conv1": "1/4"}, exclude=["layer4", "conv1"])
    ranks = {name: layer.rank for name, layer in network.named_modules() if isinstance(layer, RuleLayer)}
    assert (ranks["fc"], ranks["layer1.0.conv1"], ranks["layer1.0.conv2"]) == (2, 16, 64)
    assert "conv1" in plain_layers(network) and not any(name.startswith("layer4") for name in ranks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "fda"}, "unknown rule 'fda'"),
        ({"rule": "ldfa", "rank": 0}, "^rank=0: expected: a whole number from 1"),
        ({"rule": "fa", "rank": 3}, "^rank=3: rule 'fa' has no rank"),
        ({"rule": "ldfa", "rank": {"layer9": 2}}, "unknown layer 'layer9'"),
        ({"rule": "ldfa", "exclude": ["layer9"]}, "unknown layer 'layer9'"),
        ({"rule": "ldfa", "initail": "uniform"}, "unknown key 'initail'"),
    ],
)
def test_bad_requests_leave_the_network_as_it_was(arguments, message):
    network = resnet()
    with pytest.raises(UsageError, match=message) as error:
        bench.convert(network, **arguments)
    assert "\n" not in str(error.value)
    assert str(network) == str(resnet())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip": -1.0}, "^clip=-1.0"),
        ({"clip": float("nan")}, "^clip=nan"),
        ({"clip": "0.1"}, "^clip='0.1'"),
        ({"output": "fc"}, "^output='fc': rule 'ldfa' is not direct"),
        ({"exclude": [3]}, "^exclude: 3 is neither"),
        ({"seed": "0"}, "^seed='0'"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"exclude": "layer9.*"}, r"unknown layer 'layer9\.\*'"),
        ({"rank": {"fc": -2}}, "^rank of 'fc': -2"),
    ],
)
def test_arguments_are_checked_at_once_and_are_value_errors(arguments, message):
    network = resnet()
    with pytest.raises(ValueError, match=message) as error:
        bench.convert(network, "ldfa", **arguments)
    assert "--" not in str(error.value) and "\n" not in str(error.value)
    assert str(network) == str(resnet())


@pytest.mark.parametrize(
    "arguments",
    [
        {"rule": "ldfa", "rank": 0},
        {"rule": "ldfa", "rank": -1},
        {"rule": "ldfa", "rank": 1.5},
        {"rule": "fa", "rank": 2},
        {"rule": "fa", "clip": -1},
        {"rule": "fa", "dtype": torch.complex64},
    ],
)
def test_a_layer_of_ones_own_checks_what_convert_checks(arguments):
    with pytest.raises(UsageError, match=r"^(rank|clip)=|^its weight is complex64"):
        Linear(6, 4, **arguments)


def test_a_layer_of_ones_own_takes_a_fraction():
    assert Linear(6, 4, rule="ldfa", rank="1/2").rank == 2


def test_targets_of_another_batch_are_refused():
    layer = Linear(6, 4, rule="ldfa")
    layer.targets = torch.zeros(5, 4)
    with pytest.raises(UsageError, match=r"^targets of shape \(5, 4\); expected: \(3, 4\)"):
        layer(torch.ones(3, 6)).sum().backward()


def names_under(network):
    return [name for name, layer in network.named_modules() if isinstance(layer, RuleLayer)]


def test_ranks_by_names_and_patterns_of_which_the_last_counts():
    ranks = {"layer*": "1/8", "layer4.1": 3, "*.conv2": 5, "fc": 2}
    network = bench.convert(resnet(), "ldfa", ranks, exclude=["conv1", "layer1"])
    found = {
        name: network.get_submodule(name).feedback.P.shape[-1] for name in ("layer2.0.conv1", "layer4.1.conv1", "fc")
    }
    assert found == {"layer2.0.conv1": 16, "layer4.1.conv1": 3, "fc": 2}
    assert network.layer4[1].conv2.feedback.P.shape[-1] == network.layer2[0].conv2.feedback.P.shape[-1] == 5
    with pytest.raises(UsageError, match=r"unknown layer 'layer1\.\*'"):
        bench.convert(resnet(), "ldfa", {"layer1.*": 2}, exclude="layer1")


@pytest.mark.parametrize(
    "exclude", ["12", ["12"], ["1[2]"], lambda name, layer: name == "12", [lambda name, layer: name == "12"]]
)
def test_what_is_left_out_by_name_pattern_or_function(exclude):
    network = bench.convert(nn.Sequential(*(nn.Linear(2, 2) for _ in range(13))), "fa", exclude=exclude)
    assert names_under(network) == [str(index) for index in range(12)]


def test_all_layers_that_cannot_be_converted_are_named_at_once_and_can_be_left_out():
    network = nn.Sequential(
        nn.Linear(4, 4),
        nn.utils.spectral_norm(nn.Linear(4, 4)),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        nn.Linear(4, 4, dtype=torch.complex64),
        nn.LazyLinear(4),
        bench.Linear(4, 4, rule="fa"),
    )
    with pytest.raises(UsageError) as error:
        bench.convert(network, "ldfa", 2)
    assert [f"layer '{index}': " in str(error.value) for index in range(6)] == [False] + 5 * [True]
    assert names_under(network) == ["5"]
    assert str(error.value).endswith("exclude=['1', '2', '3', '4', '5']")
    with pytest.warns(UserWarning, match="60% of the weights stay plain"):
        bench.convert(network, "ldfa", 2, exclude=["1", "2", "3", "4", "5"])
    assert names_under(network) == ["0", "5"]
    reasons = " ".join(reason for reason, _ in bench.conversion_report(network).plain.values())
    assert all(word in reasons for word in ("hook", "parametrized", "complex64", "lazy"))


def test_a_root_that_is_a_layer_and_a_layer_under_two_names():
    layer = nn.Linear(4, 4)
    assert bench.convert(layer, "fa") is layer and type(layer) is Linear
    assert type(bench.revert(layer)) is nn.Linear
    network = bench.convert(nn.Sequential(layer, nn.ReLU(), layer), "fa")
    assert network[0] is network[2] and type(layer) is Linear


@pytest.mark.parametrize("network", [nn.Sequential(nn.ReLU()), nn.Sequential(nn.Embedding(4, 2))])
def test_nothing_to_convert_is_refused(network):
    with pytest.raises(UsageError, match=r"^nothing to convert"):
        bench.convert(network, "fa")


def test_a_network_in_a_wrapper_is_refused():
    with pytest.raises(UsageError, match=r"is a DataParallel: convert the network first"):
        bench.convert(nn.DataParallel(nn.Linear(4, 4)), "fa")


class Standardised(nn.Conv2d):
    """Makes its own weight."""

    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


def test_a_layer_loads_only_where_its_type_is_registered():
    with pytest.raises(
        UsageError, match=r"test_conversion\.Standardised: call bench\.register_layer for it, then load"
    ):
        blank(Standardised)


class Renamed(nn.Linear):
    """Inherits its forward pass."""


def test_the_report_says_what_is_under_the_rule_and_what_is_not_and_why():
    network = nn.Sequential(nn.Embedding(9, 4), Standardised(1, 2, 3), Renamed(4, 4), nn.Linear(4, 3), nn.GRU(4, 4))
    with pytest.warns(UserWarning, match="of the weights stay plain: print"):
        bench.convert(network, "ldfa", 2, exclude="3")
    report = bench.conversion_report(network)
    assert report.under == {"2": ("Renamed", "ldfa, rank 2", 4 * 2 + 2 * 4)}
    assert isinstance(network[2], Renamed) and report.feedback == 16
    register = "bench.register_layer declares how such a layer's weight acts"
    assert {name: reason.split(":")[0] for name, (reason, _) in report.plain.items()} == {
        "0": "Embedding",
        "1": f"Standardised makes its own weight or forward pass; {register}",
        "3": "not converted",
        "4": f"no handler for GRU; {register}",
    }
    assert report.weights_plain == 36 + 18 + 12 + 96 and report.weights_under == 16
    assert "16 weights under a rule, 162 plain (91%); 16 feedback parameters" in str(report)


def test_hooks_attributes_mode_and_tied_weights_survive_there_and_back():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).eval()
    network[1].weight = network[0].weight
    network[0].note = "kept"
    calls = []
    network[0].register_forward_hook(lambda *_: calls.append(1))
    before, objects = dict(network[0].__dict__), [*network, *network.parameters()]
    bench.convert(network, "ldfa", 2)
    network(torch.ones(2, 4)).sum().backward()
    bench.revert(network)(torch.ones(2, 4))
    assert len(calls) == 2 and network[0].note == "kept"
    assert all(a is b for a, b in zip([*network, *network.parameters()], objects, strict=True))
    assert network[0].__dict__.keys() == before.keys() and not network[0].training
    assert not network[0].weight._backward_hooks


@pytest.mark.parametrize("rule", ["ldfa", "dfa"])
def test_copies_and_pickles_are_under_the_rule(rule, tmp_path):
    network = bench.convert(nn.Sequential(nn.Linear(4, 4), Renamed(4, 4), nn.Linear(4, 2)), rule)
    torch.save(network, tmp_path / "network.pt")
    read = torch.load(tmp_path / "network.pt", weights_only=False)
    x = torch.randn(3, 4, generator=Generator().manual_seed(0))
    network(x).sum().backward()
    for other in (copy.deepcopy(network), read):
        other.zero_grad()
        other(x).sum().backward()
        assert names_under(other) == ["0", "1", "2"] and other[0].weight is not network[0].weight
        for found, expected in zip(other.parameters(), network.parameters(), strict=True):
            assert (found.grad is None) == (expected.grad is None)
            assert found.grad is None or torch.equal(found.grad, expected.grad)
        with pytest.raises(UsageError, match="'0' are read by other code"):
            F.linear(x, other[0].weight).sum().backward()


def test_direct_rules_need_one_output():
    with pytest.raises(UsageError, match="a Linear layer that gives the network's single output"):
        bench.convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)), "dfa")
    tokens = bench.convert(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)), "dfa")
    tokens(torch.ones(2, 7, 3)).sum().backward()


def test_layers_of_ones_own():
    torch.manual_seed(0)
    layer = Conv2d(3, 8, 3, padding=1, rule="ldfa", rank=2)
    assert isinstance(layer, nn.Conv2d) and layer.feedback["P"].shape == (8, 2)
    assert Linear(6, 4, bias=False, rule="kp").bias is None
    with pytest.raises(UsageError, match="a direct rule needs the whole network"):
        Linear(6, 4, rule="dfa")


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (lambda network: None, {"2": "not converted"}),
        (lambda network: nn.utils.parametrizations.weight_norm(network[0]), {"2": "not converted"}),
        (bench.revert, {"0": "not converted", "2": "not converted"}),
    ],
)
def test_the_report_counts_a_layer_of_one_output_and_each_layer_once(change, reasons):
    network = bench.convert(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)), "fa", exclude="2")
    change(network)
    report = bench.conversion_report(network)
    assert {name: reason for name, (reason, _) in report.plain.items()} == reasons
    assert report.weights_under + report.weights_plain == 20


def shared():
    layer = nn.Linear(4, 4)
    return nn.ModuleDict({name: nn.Sequential(layer, nn.Linear(4, 4)) for name in ("encoder", "decoder")})


def test_a_layer_in_two_places_has_two_names():
    network = bench.convert(shared(), "ldfa", {"encoder": 4, "decoder": 2})
    assert [network["encoder"][0].rank, network["encoder"][1].rank] == [2, 4]
    with pytest.warns(UserWarning, match="of the weights stay plain"):
        assert names_under(bench.convert(shared(), "fa", exclude="decoder")) == ["encoder.1"]
    assert names_under(bench.convert(shared(), "fa", exclude="decoder.0")) == ["encoder.1", "decoder.1"]
    network = bench.convert(shared(), "dfa", output="decoder.0")
    assert network["encoder"][0].source.name == "encoder.0"


def test_a_network_that_holds_itself():
    network = nn.Sequential(nn.Linear(4, 4))
    network[0].add_module("whole", network)
    assert names_under(bench.convert(network, "fa")) == ["0"]


@pytest.mark.parametrize(
    ("rule", "broken", "message"),
    [
        ("ldfa-track", lambda: nn.Linear(4, 4).requires_grad_(False), r"^layer '1': its weight has no singular values"),
        ("fa", lambda: nn.Linear(0, 4), r"^layer '1': its weight is empty, of shape \(4, 0\)"),
        ("fa", lambda: nn.Linear(4, 0), r"^layer '1': its weight is empty, of shape \(0, 4\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_weight_that_no_rule_takes_leaves_the_network_as_it_was(rule, broken, message):
    network = nn.Sequential(nn.Linear(4, 4), broken())
    network[1].weight.data.fill_(torch.nan)
    with pytest.raises(UsageError, match=message) as error:
        bench.convert(network, rule)
    assert "\n" not in str(error.value) and names_under(network) == []


def test_an_unforeseen_error_leaves_the_network_as_it_was():
    class Own(nn.Linear):
        pass

    network = nn.Sequential(nn.Linear(4, 4), Own(4, 4))
    bench.register_layer(Own, lambda layer: layer.missing)
    try:
        with pytest.raises(AttributeError):
            bench.convert(network, "fa")
        assert names_under(network) == []
    finally:
        del LAYERS[Own]
        layer_class.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": None}, r"^exclude: None is neither a name"),
        ({"exclude": nn.Linear}, r"^exclude: <class 'torch.*Linear'> is neither a name"),
        ({"seed": None}, r"^seed=None: expected: a whole number"),
        ({"output": "fc"}, r"^output='fc': rule 'ldfa' is not direct"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        bench.convert(resnet(), "ldfa", **arguments)


@pytest.mark.parametrize("each", [lambda layer: layer, lambda layer: [layer]])
def test_a_layer_is_excluded_by_its_name(each):
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 4))
    with pytest.raises(UsageError, match=r"^exclude: Sequential is neither .*; give its name, '0'$"):
        bench.convert(network, "fa", exclude=each(network[0]))


def test_a_list_of_layers_is_no_network():
    with pytest.raises(UsageError, match=r"^\[Linear.* of type list; expected: a network"):
        bench.convert([nn.Linear(2, 2)], "fa")
