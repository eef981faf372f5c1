"""What a rule holds fixed stays to the bit, whoever trains it, and costs nothing."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import Generator, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import bench
from bench.config import Config
from bench.errors import UsageError
from bench.layers import Linear, RuleLayer
from bench.rules import RULES
from bench.rules.base import Signals
from bench.rules.fa import FeedbackAlignment
from bench.training.batches import Batches
from bench.training.costs import Flops, cost, parameters_of
from bench.training.learner import prepare, step
from bench.training.optimisers import optimiser_of
from bench.training.population import Population

SQUARE = ("ldfa", "ldfa-p", "ldfa-direct")
"""Rules under which P learns, and a square one has nothing to."""
CONFIG = Config(
    model="mlp",
    dataset="digits",
    rule="ldfa",
    rank="full",
    model_options={"width": 16},
    lr=1e-2,
    weight_decay=1e-2,
    batch_size=64,
)


def fixed_of(network):
    """A copy of each fixed feedback tensor of a network, by name."""
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, RuleLayer)}
    return {f"{at}.{name}": layers[at].feedback[name].detach().clone() for at in layers for name in layers[at].fixed}


def trained(network, steps=3):
    """The network after steps of AdamW over all its parameters, on one batch of noise."""
    x = torch.randn(32, 6, generator=Generator().manual_seed(1))
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    told = any(isinstance(layer, RuleLayer) and layer.rule.told == "all" for layer in network.modules())
    for _ in range(steps):
        if told:
            bench.tell(network, F.one_hot(torch.arange(32) % 4))
        optimiser.zero_grad()
        F.cross_entropy(network(x), torch.arange(32) % 4).backward()
        optimiser.step()
    return network


def small(rule, **options):
    torch.manual_seed(0)
    return bench.convert(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)), rule, **options)


@pytest.fixture
def one_process(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("rule", RULES.names())
def test_an_optimiser_over_all_parameters_and_data_parallelism(rule, one_process):
    """Three steps: from the second on DistributedDataParallel asks for a gradient of all that requires one."""
    network, before = small(rule), fixed_of(small(rule))
    trained(DistributedDataParallel(network))
    torch.testing.assert_close(fixed_of(network), before, rtol=0, atol=0)
    alone = {} if RULES.get(rule).draws else trained(small(rule)).state_dict()
    assert all(torch.equal(tensor, alone.get(name, tensor)) for name, tensor in network.state_dict().items())


@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`:UserWarning")  # here is one process
@pytest.mark.parametrize("rule", ["bp", "fa", "ldfa", "dfa"])
def test_sharded_parameters_train_as_whole_ones(rule, one_process):
    """By either of PyTorch's ways. P of `ldfa` starts as the transpose of what lies in memory, which one misreads."""
    rank = {"rank": 3} if RULES.get(rule).ranked else {}
    expected = trained(small(rule, **rank)).state_dict()
    mesh = init_device_mesh("cpu", (1,))
    sharded = trained(fully_shard(small(rule, **rank), mesh=mesh)).state_dict()
    for name, tensor in sharded.items():
        assert torch.equal(tensor.full_tensor(), expected[name]), name
    wrapper = FullyShardedDataParallel(small(rule, **rank), use_orig_params=True, device_id=torch.device("cpu"))
    with FullyShardedDataParallel.summon_full_params(trained(wrapper)):
        for name, tensor in wrapper.module.state_dict().items():
            assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("rule", SQUARE)
def test_a_square_p_that_starts_orthonormal_is_fixed(rule):
    """The one of the output layer at rank C too; one that starts uniform or is not square learns."""

    def fixed(**options):
        return {name for name in fixed_of(small(rule, **options)) if name.endswith("P")}

    assert fixed() == {"0.P", "2.P"}
    assert fixed(rank=3) == fixed(initial="uniform") == set()
    assert fixed(rank=4) == ({"0.P", "2.P"} if rule == "ldfa-direct" else {"2.P"})


def test_p_of_the_local_rule_learns_when_it_is_square():
    assert fixed_of(small("ldfa-hebb")) == {}


def test_200_steps_leave_a_square_p_as_it_was():
    """Between layers whose P learns; it has no state in the optimiser."""
    config = replace(CONFIG, rank="B1=3")
    data, learner = prepare(config, "cpu")
    optimiser, batches = optimiser_of(config, learner), Batches(data.train, data, config)
    before = {label: layer.feedback["P"].detach().clone() for label, layer in learner.layers.items()}
    batch = list(islice(batches.in_order(), 20))
    for _ in range(10):
        for inputs, targets in batch:
            step(learner, optimiser, inputs, targets)
    same = {label: torch.equal(layer.feedback["P"], before[label]) for label, layer in learner.layers.items()}
    assert same == {"B1": False, "B2": True, "B3": True}
    assert len(optimiser.state) == sum(p.requires_grad for p in learner.network.parameters())


def test_a_population_mixes_ranks(monkeypatch):
    """The rows of members whose P is square stay; the others' learn."""
    configs = [replace(CONFIG, rank=rank, seed=seed) for seed, rank in enumerate(["full", "3", "B2=3"])]
    (data, first), *others = (prepare(config, "cpu") for config in configs)
    learners = [first, *(learner for _, learner in others)]
    population = Population(learners)
    optimiser = optimiser_of(CONFIG, population)
    before = [fixed_of(learner.network) for learner in learners]
    learning = learners[1].layers["B1"].feedback["P"].detach().clone()
    assert [len(found) for found in before] == [3, 0, 2]
    for batch in islice(Batches(data.train, data, CONFIG).shuffled(*map(Generator().manual_seed, range(3))), 10):
        step(population, optimiser, *batch)
    for learner, fixed in zip(learners, before, strict=True):
        torch.testing.assert_close(fixed_of(learner.network), fixed, rtol=0, atol=0)
    assert not torch.equal(learners[1].layers["B1"].feedback["P"], learning)


def test_a_square_p_costs_two_products_more_than_kp():
    """Of N x 16 by 16 x 16: P in the error path, and the gradient of Q, where `kp` has that of W."""
    n, width = 32, 16
    one = 2 * n * width * width

    def flops(rule):
        layer = Linear.from_plain(nn.Linear(width, width), RULES.get(rule)(), width, Generator(), None, None)
        x, g = torch.randn(n, width), torch.randn(n, width)
        return cost(layer, Signals(layer.operator, layer.weight, x, g, fixed=layer.fixed))

    assert flops("kp") == Flops(one, one, one, 0)
    assert flops("ldfa") == Flops(one, 2 * one, one, one)
    assert flops("ldfa-p") == Flops(one, 2 * one, one, 0)


def test_parameters_that_learn_are_counted():
    _, learner = prepare(replace(CONFIG, rule="fa", rank=None), "cpu")
    counts = parameters_of(learner)
    assert counts["trainable"] == counts["forward"] == sum(p.numel() for p in learner.weights())
    assert counts["feedback"] == 2 * 16 * 16 + 10 * 16


def test_a_copy_and_a_frozen_factor():
    """A copied state keeps what is fixed; a tensor that the user freezes gets no gradient, and no error."""
    network = small("ldfa", rank=4)
    network[0].feedback["Q"].requires_grad_(False)
    network.load_state_dict(small("ldfa", rank=4).state_dict())
    trained(network, steps=1)
    assert [t.grad is None for t in network[0].feedback.values()] == [False, True]
    assert [t.grad is None for t in network[2].feedback.values()] == [True, False]
    assert not any(hasattr(layer, "feedback") for layer in bench.revert(network).modules())


class Disputed(FeedbackAlignment):
    """Inherits that B is fixed, and gives it a gradient."""

    def backward(self, signals, feedback):
        return super().backward(signals, feedback)[0], {"B": signals.dW}


def test_a_rule_that_contradicts_itself_is_named():
    layer = Linear(6, 4, rule=Disputed())
    with pytest.raises(UsageError, match=r"^Disputed declares B fixed but returns a gradient for it$"):
        layer(torch.randn(3, 6)).sum().backward()
