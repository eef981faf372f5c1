"""Which error a direct rule hears, and where it hears none."""

import copy

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import bench
from bench.errors import UsageError
from bench.rules import RULES

DIRECT = ["dfa", "ldfa-direct"]
X = torch.randn(3, 4, generator=Generator().manual_seed(1))


def network(rule="dfa", **options):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 2))
    return bench.convert(plain, rule, **options)


@pytest.mark.parametrize("rule", DIRECT)
def test_a_pass_that_skips_the_output_is_refused_and_the_next_is_right(rule):
    under, other = network(rule), network(rule)
    under(X).sum().backward()
    with pytest.raises(UsageError, match=r"^layer '2' receives no error: in this pass it does not lead to the output"):
        under[:3](X).sum().backward()
    for each in (under, other):
        each.zero_grad()
        (1000 * each(X).square().mean()).backward()
    assert torch.equal(under[0].weight.grad, other[0].weight.grad)


class TwoHeads(nn.Module):
    """An actor-critic; `first` is called before the other head."""

    def __init__(self, first):
        super().__init__()
        self.trunk, self.policy, self.value = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 1)
        self.first = first

    def forward(self, x):
        h = torch.tanh(self.trunk(x))
        second = {"policy": "value", "value": "policy"}[self.first]
        out = {name: getattr(self, name)(h) for name in (self.first, second)}
        return out["policy"], out["value"]


@pytest.mark.parametrize("first", ["policy", "value"])
def test_a_second_head_is_named_and_can_be_left_out(first):
    under = bench.convert(TwoHeads(first), "dfa", output="policy")
    policy, value = under(X)
    with pytest.raises(UsageError, match=r"layer 'value' receives no error"):
        (policy.square().sum() + value.sum()).backward()
    under = bench.convert(TwoHeads(first), "dfa", output="policy", exclude="value")
    policy, value = under(X)
    (policy.square().sum() + value.sum()).backward()


class Twice(nn.Module):
    """Calls its output twice, on two inputs or on two views of one."""

    def __init__(self):
        super().__init__()
        self.below, self.trunk, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, *inputs):
        hidden = [torch.tanh(self.trunk(torch.tanh(self.below(x)))) for x in inputs]
        hidden += [2 * hidden[0]] * (len(hidden) == 1)
        return [self.head(h) for h in hidden]


@pytest.mark.parametrize("inputs", [(X, 2 * X), (X, X[:2]), (X,)], ids=["two", "of two sizes", "one"])
def test_an_output_that_is_called_twice(inputs):
    """Each layer hears the error of the calls that it leads to, and the sum where it leads to both."""
    torch.manual_seed(0)
    under = bench.convert(Twice(), "dfa")

    def gradient(one, other):
        under.zero_grad()
        first, second = under(*inputs)
        (one * first.square().sum() + other * second.sum()).backward()
        return under.below.weight.grad.clone()

    torch.testing.assert_close(gradient(1, 3), gradient(1, 0) + gradient(0, 3))
    assert gradient(1, 0).any() and gradient(0, 3).any()


def test_errors_that_do_not_add_up_are_refused():
    class Pooled(Twice):
        def forward(self, x):
            h = torch.tanh(self.trunk(x))
            return self.head(h).sum() + self.head(h.mean(1)).sum()

    with pytest.raises(UsageError, match=r"layer 'trunk' .* calls of shapes \(3, 2\), \(3, 5, 2\), whose"):
        bench.convert(Pooled(), "dfa")(torch.randn(3, 5, 4)).backward()


@pytest.mark.parametrize("output", [["policy", "value"], ("policy", "value"), 3])
def test_a_direct_rule_takes_one_output(output):
    with pytest.raises(UsageError, match=r"^output=.*expected: the name of one layer; a direct rule has one output"):
        bench.convert(TwoHeads("policy"), "dfa", output=output)


def test_a_copy_hears_its_own_error():
    under = network()
    under(X).sum().backward()
    other = copy.deepcopy(under)
    other.zero_grad()
    (10 * other(X)).sum().backward()
    torch.testing.assert_close(other[0].weight.grad, 10 * under[0].weight.grad)
    assert other[0].source is not under[0].source


class SequenceFirst(nn.Module):
    """Tokens (T, N, 4) to one output per example."""

    def __init__(self):
        super().__init__()
        self.token, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.token(x).mean(0))


@pytest.mark.parametrize("examples", [1, 3])
def test_examples_that_are_not_along_the_first_dimension(examples):
    under = bench.convert(SequenceFirst(), "dfa")
    with pytest.raises(UsageError, match=rf"layer 'token' received 5 rows, the output 'head' has {examples} examples"):
        under(torch.randn(5, examples, 4)).sum().backward()


@pytest.mark.parametrize("rule", DIRECT)
def test_an_output_per_position_reaches_the_same_positions_each_with_its_own_error(rule):
    """As the same rows do that are examples of their own; a layer of other positions hears their mean."""
    rank = 2 if rule == "ldfa-direct" else None
    positions, rows = network(rule, rank=rank), network(rule, rank=rank)
    x = torch.randn(3, 5, 4, generator=Generator().manual_seed(1))
    targets = torch.arange(15) % 2
    F.cross_entropy(positions(x).flatten(0, 1), targets).backward()
    F.cross_entropy(rows(x.flatten(0, 1)), targets).backward()
    for found, expected in zip(positions.parameters(), rows.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(found.grad, expected.grad)


def test_a_layer_of_other_positions_hears_the_mean():
    class Summary(nn.Module):
        def __init__(self):
            super().__init__()
            self.summary, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(x + self.summary(x.mean(1))[:, None])

    under = bench.convert(Summary(), "dfa")
    errors, sent = [], []
    under.summary.register_full_backward_hook(lambda module, inputs, outputs: sent.append(inputs[0]))
    y = under(torch.randn(3, 5, 4).requires_grad_())
    y.register_hook(errors.append)
    y.square().sum().backward()
    torch.testing.assert_close(sent[0], errors[0].mean(1) @ under.summary.feedback["B"])


def test_a_single_example_without_a_batch():
    under = network()
    under(X[0]).sum().backward()
    assert under[0].weight.grad is not None


def test_a_reverted_network_listens_no_more():
    under = bench.revert(network())
    assert not any(module._forward_hooks for module in under.modules())


def labels(examples=3, classes=2):
    return F.one_hot(torch.arange(examples) % classes, classes)


def test_targets_that_every_layer_is_told_stand_for_the_error():
    """Each layer's feedback carries them; the next batch brings its own."""
    under, sent = network("drtp"), []
    under[2].register_full_backward_hook(lambda module, inputs, outputs: sent.append(inputs[0]))
    for targets in (labels(), labels().flip(1)):
        bench.tell(under, targets)
        under(X).sum().backward()
        torch.testing.assert_close(sent.pop(), -targets.float() @ under[2].feedback["B"] / 3)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, r"^layer '3' received no targets; expected: bench\.tell\(network, one-hot labels \(N, 2\)\) before"),
        (labels(classes=4), r"^targets of shape \(3, 4\); expected: one-hot labels \(N, 2\)$"),
        (labels(examples=5), r"^layer '3' received 3 rows, its targets have 5 examples"),
    ],
)
def test_targets_that_are_missing_or_of_another_batch_are_refused(targets, message):
    under = network("drtp")
    if targets is not None:
        bench.tell(under, targets)
    with pytest.raises(UsageError, match=message):
        under(X).sum().backward()


def test_a_batch_uses_up_the_targets_that_it_was_told():
    """Also in recomputed forward passes; targets of the next batch that were told before the backward pass stay."""
    under = network("drtp")
    bench.tell(under, labels())
    checkpoint(under, X, use_reentrant=False).sum().backward()
    with pytest.raises(UsageError, match="received no targets"):
        under(X).sum().backward()
    bench.tell(under, labels())
    first = under(X).sum()
    bench.tell(under, labels().flip(1))
    first.backward()
    under(X).sum().backward()


def test_a_call_that_is_recomputed_has_the_targets_of_its_batch_or_is_refused():
    under, loss = network("drtp"), 0
    for targets in (labels(), labels().flip(1)):
        bench.tell(under, targets)
        loss = loss + checkpoint(under, X, use_reentrant=False).sum()
    with pytest.raises(UsageError, match=r"^layer '\d' is recomputed after bench.tell gave the targets of 2 batches"):
        loss.backward()
    bench.tell(under, labels())
    checkpoint(under, X, use_reentrant=False).sum().backward()


def test_a_network_without_layers_that_are_told_is_not_told():
    with pytest.raises(UsageError, match=r"^no layer of this network is told targets"):
        bench.tell(network("dfa"), labels())
    with pytest.raises(UsageError, match=r"^targets of type list; expected: a tensor"):
        bench.tell(network("drtp"), [0, 1, 1])


def test_a_direct_rule_is_not_asked_for_a_feedback_matrix(monkeypatch):
    def asked(self, W, feedback):
        raise AssertionError

    monkeypatch.setattr(RULES.get("dfa"), "feedback_matrix", asked)
    network("dfa")(X).sum().backward()


def test_the_report_names_the_layer_whose_error_all_receive():
    """The last Linear in the order of registration, which need not be that of the calls."""
    report = str(bench.conversion_report(network("dfa")))
    assert "all layers receive the error of '3', taken as the network's output" in report
    assert "receive" not in str(bench.conversion_report(bench.convert(nn.Linear(4, 2), "fa")))


def test_the_output_takes_its_input_by_keyword():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.below, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(input=self.below(x))

    under = bench.convert(Named(), "ldfa-direct", source="hidden")
    under(X).sum().backward()
    assert under.below.weight.grad.any()


@pytest.mark.parametrize("rule", DIRECT)
def test_a_network_can_be_copied_after_a_pass_that_keeps_its_graph(rule):
    under = network(rule)
    x = X.clone().requires_grad_()
    torch.autograd.grad(under(x).square().sum(), x, create_graph=True)
    copy.deepcopy(under)(X).sum().backward()
