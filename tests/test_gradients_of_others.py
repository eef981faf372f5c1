"""A weight under a rule gets no gradient that its layer did not make."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

import bench
from bench.errors import UsageError


def network(rule="ldfa", layers=3):
    torch.manual_seed(0)
    return bench.convert(nn.Sequential(*(nn.Linear(4, 4) for _ in range(layers))), rule)


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def test_layers_that_are_never_called_are_all_named():
    under = network()
    with pytest.raises(UsageError, match="the weights of '1', '2' are read by other code, the layers were not"):
        F.linear(under[0](X), under[1].weight).sum().backward()


def test_a_weight_that_is_read_beside_its_layer():
    under = network()
    with pytest.raises(UsageError, match=r"^the weights of '0' are read by other code, not by their own layer alone"):
        F.linear(under(X), under[0].weight.T).sum().backward()


def test_backpropagation_may_come_from_anywhere():
    F.linear(network("bp")[0](X), network("bp")[0].weight.T).sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_layer_that_is_called_four_times_and_checkpoints(reentrant):
    under, plain = network(), bench.revert(network())
    for each in (under, plain):
        h = X.clone().requires_grad_()
        for _ in range(4):
            h = checkpoint(each[0], h, use_reentrant=reentrant)
        each[1](each[0](h)).sum().backward()
    assert under[0].weight.grad.shape == plain[0].weight.grad.shape
    with pytest.raises(UsageError, match="'0' are read by other code"):
        F.linear(under[0](under[0](X)), under[0].weight).sum().backward()


def test_a_gradient_that_is_asked_of_some_tensors_alone():
    under = network()
    x = X.clone().requires_grad_()
    torch.autograd.grad(under(x).sum(), [x])
    torch.autograd.grad(under(x).sum(), [under[1].weight])
    under(x).sum().backward()


def test_the_gradient_is_not_copied():
    under = network(layers=1)
    made = []
    add = under[0].watch.add
    under[0].watch.add = lambda dW: (made.append(dW.data_ptr()), add(dW))
    under(X).sum().backward()
    assert under[0].weight.grad.data_ptr() == made[0]


def test_tied_layers_are_both_under_the_rule_and_an_embedding_adds_its_own():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.hidden, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.hidden(self.embed(tokens)))

    language = bench.convert(Tied(), "ldfa", 2)
    language(torch.tensor([[1, 2]])).sum().backward()
    assert language.head.weight.grad[1:3].any(1).all()
    assert "shares its weight with embed" in str(bench.conversion_report(language))
    twice = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    twice[1].weight = twice[0].weight
    bench.convert(twice, "ldfa")(X).sum().backward()
    bench.revert(twice)
    with pytest.raises(UsageError, match="layer '0': shares its weight with '1', which stays plain"):
        bench.convert(twice, "ldfa", exclude="1")


def test_a_layer_may_be_parametrized_afterwards():
    under = network()
    nn.utils.parametrizations.weight_norm(under[0])
    nn.utils.spectral_norm(under[1])
    under(X).sum().backward()
    assert under[0].parametrizations.weight.original0.grad is not None and under[1].weight_orig.grad is not None
    with pytest.raises(UsageError, match="layers '0' are parametrized"):
        bench.revert(under)


def test_weights_that_are_moved_thawed_or_replaced_are_still_watched():
    under = network(layers=2).requires_grad_(False)
    under.requires_grad_(True).double()
    under[1].weight = nn.Parameter(torch.ones(4, 4).double())
    under(X.double()).sum().backward()
    for layer in under:
        with pytest.raises(UsageError, match="read by other code"):
            F.linear(X.double(), layer.weight).sum().backward()


class Language(nn.Module):
    """Its head shares the weight of the embedding; the forward pass ends as it is told."""

    def __init__(self, ends):
        super().__init__()
        self.embed, self.hidden, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.head.weight, self.ends = self.embed.weight, ends

    def forward(self, tokens):
        return self.ends(self, self.hidden(self.embed(tokens)))


TOKENS = torch.tensor([[1, 2]])


@pytest.mark.parametrize("copied", [False, True])
def test_a_head_tied_to_an_embedding_is_noticed_if_it_is_read_in_place_of_called(copied):
    reading = bench.convert(Language(lambda self, h: F.linear(h, self.head.weight)), "fa")
    reading = copy.deepcopy(reading) if copied else reading
    with pytest.raises(UsageError, match="the weights of 'head' are read by other code, the layers were not called"):
        reading(TOKENS).sum().backward()
    bench.revert(reading)(TOKENS).sum().backward()
    assert not reading.embed._forward_hooks


def test_an_embedding_may_be_used_without_its_tied_head():
    trunk = bench.convert(Language(lambda self, h: h + self.hidden(self.embed(TOKENS))), "fa")
    trunk(TOKENS).sum().backward()
    torch.compile(trunk, backend="aot_eager")(TOKENS).sum().backward()
    torch.func.vmap(trunk)(TOKENS[None]).sum().backward()
    torch.export.export(trunk, (TOKENS,)).module()(TOKENS)


class Scaled(nn.Embedding):
    """Looks up in a weight of two times its own."""

    def forward(self, tokens):
        return 2 * super().forward(tokens)


def test_an_embedding_that_changes_what_it_looks_up_is_known_by_its_autograd_node():
    trunk = Language(lambda self, h: h)
    trunk.embed = Scaled(7, 4)
    trunk.head.weight = trunk.embed.weight
    bench.convert(trunk, "fa")(TOKENS).sum().backward()
    trunk.ends = lambda self, h: F.linear(h, self.head.weight)
    with pytest.raises(UsageError, match="'head' are read"):
        trunk(TOKENS).sum().backward()


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return F.linear(self.a(x).tanh(), self.b.weight)


def assigned(under):
    under.load_state_dict({name: value.clone() for name, value in under.state_dict().items()}, assign=True)


def replaced(under):
    under.b.weight = nn.Parameter(torch.ones(4, 4))


def mapped_once(under):
    values = {name: value.detach() for name, value in under.b.named_parameters()}
    torch.func.grad(lambda values: torch.func.functional_call(under.b, values, X).sum())(values)


def thawed(under):
    under.requires_grad_(True)


def pruned(under):
    prune.l1_unstructured(under.b, "weight", 0.2)


@pytest.mark.parametrize("change", [assigned, replaced, mapped_once, thawed, pruned])
def test_a_weight_that_changed_after_conversion_is_watched_before_its_layer_is_called(change):
    under = Reads().requires_grad_(change is not thawed)
    change(bench.convert(under, "fa"))
    with pytest.raises(UsageError, match="the weights of 'b' are read by other code"):
        under(X).sum().backward()


def test_gradients_of_torch_func_that_reach_the_weights_are_not_compared_in_their_pass_alone():
    under = network("fa", 1)
    for _ in range(2):
        (torch.func.vmap(torch.func.jacrev(under))(X).sum() + under(X).sum()).backward()
    under(X).sum().backward()
    with pytest.raises(UsageError, match="'0' are read"):
        F.linear(under(X), under[0].weight).sum().backward()


@pytest.mark.parametrize("frozen", [True, False])
def test_the_report_names_layers_that_were_never_called(frozen):
    under = Reads()
    under.b.weight.requires_grad_(not frozen)
    bench.convert(under, "fa")
    assert "never called" not in str(bench.conversion_report(under))
    nn.utils.parametrizations.weight_norm(under.b)
    under(X).sum().backward()
    report = bench.conversion_report(under)
    told = {name: "never called in passes with gradients" in rule for name, (_, rule, _) in report.under.items()}
    assert told == {"a": False, "b": True}


def test_a_hook_that_changes_the_gradient_may_be_there_before_the_conversion():
    plain = nn.Linear(4, 4)
    plain.weight.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    bench.convert(plain, "fa")(X).sum().backward()
    assert plain.weight.grad.abs().max() <= 0.01
    bench.revert(plain)
    assert len(plain.weight._backward_hooks) == 1


@pytest.mark.parametrize("add", [lambda layer: prune.l1_unstructured(layer, "weight", 0.3), nn.utils.spectral_norm])
@pytest.mark.parametrize("called", [True, False])
def test_a_reverted_network_with_a_hook_on_its_weight_is_watched_no_more(add, called):
    under = network("fa")
    add(under[1])
    if called:
        under(X).sum().backward()
    bench.revert(under)(X).sum().backward()
    assert not under[1].weight_orig._backward_hooks
