"""Every built-in rule keeps the contract; rules that break it are caught."""

from dataclasses import FrozenInstanceError, dataclass

import pytest
import torch
from torch import Generator

from bench.errors import UsageError
from bench.rules import RULES
from bench.rules.fa import FeedbackAlignment
from bench.testing import PLACES, RuleContract


class TestBuiltInRules(RuleContract):
    @pytest.fixture(autouse=True, params=RULES.built_in())
    def _each(self, request):
        self.rule = request.param


class WrongShape(FeedbackAlignment):
    def backward(self, signals, feedback):
        return super().backward(signals, feedback)[0], {"B": signals.dW.sum(0)}


class SinglePrecision(FeedbackAlignment):
    def backward(self, signals, feedback):
        return super().backward(signals, feedback)[0].float(), {}


class Overwriting(FeedbackAlignment):
    def backward(self, signals, feedback):
        sent, _ = super().backward(signals, feedback)
        signals.x.zero_()
        return sent, {}


class Doubling(FeedbackAlignment):
    def backward(self, signals, feedback):
        return 2 * super().backward(signals, feedback)[0], {}


class NotSeeded(FeedbackAlignment):
    def backward(self, signals, feedback):
        generator = Generator()
        generator.seed()
        return torch.rand(signals.x.shape, generator=generator, dtype=signals.x.dtype), {}


class LeavingTorch(FeedbackAlignment):
    def backward(self, signals, feedback):
        return super().backward(signals, feedback)[0] * signals.g.norm().item(), {}


class Normalised(FeedbackAlignment):
    def fixed(self, feedback):
        return set()

    def backward(self, signals, feedback):
        return super().backward(signals, feedback)[0], {"B": signals.dW / signals.dW.norm()}


class Remembering(FeedbackAlignment):
    seen = []

    def backward(self, signals, feedback):
        self.seen.append(signals.x)
        return super().backward(signals, feedback)


class Undeclared(FeedbackAlignment):
    def fixed(self, feedback):
        return set()


class Disputed(FeedbackAlignment):
    def backward(self, signals, feedback):
        return super().backward(signals, feedback)[0], {"B": signals.dW}


class Unknown(FeedbackAlignment):
    def fixed(self, feedback):
        return {"B", "C"}


class Peeking(FeedbackAlignment):
    def backward(self, signals, feedback):
        return super().backward(signals, feedback)[0] * signals.W.norm(), {}


class Deaf(FeedbackAlignment):
    told = "all"


class Drifting(FeedbackAlignment):
    def backward(self, signals, feedback):
        feedback["B"].data.mul_(0.9)
        return super().backward(signals, feedback)


def gradients_of_what_learns(contract, place):
    contract.test_what_is_fixed_gets_no_gradient_and_the_rest_gets_one(place, 2)


def targets_at_the_output(contract, place):
    contract.test_targets_reach_the_layers_that_the_rule_says_and_are_read(PLACES["output"])


def to_the_bit(contract, place):
    contract.test_what_is_fixed_stays_to_the_bit_under_decay_and_double_backward(place, 2)


@pytest.mark.parametrize(
    ("rule", "test"),
    [
        (WrongShape, lambda contract, place: contract.test_shapes_and_dtypes(place, torch.float64)),
        (SinglePrecision, lambda contract, place: contract.test_shapes_and_dtypes(place, torch.float64)),
        (Overwriting, RuleContract.test_backward_pass_changes_no_tensor),
        (Doubling, RuleContract.test_the_error_goes_down_through_the_feedback_matrix),
        (Doubling, RuleContract.test_a_feedback_matrix_that_is_the_weight_sends_the_exact_error),
        (Undeclared, gradients_of_what_learns),
        (Disputed, gradients_of_what_learns),
        (Unknown, gradients_of_what_learns),
        (Drifting, to_the_bit),
        (Normalised, RuleContract.test_gradients_grow_with_the_loss_or_are_declared_not_to),
        (Peeking, RuleContract.test_what_it_reads_of_the_weights_is_declared),
        (Deaf, targets_at_the_output),
        (NotSeeded, RuleContract.test_one_seed_gives_one_result),
        (LeavingTorch, RuleContract.test_a_population_is_its_networks_one_by_one),
        (Remembering, RuleContract.test_no_graph_is_kept_between_steps),
    ],
)
def test_a_rule_that_breaks_the_contract_is_caught(rule, test):
    contract = RuleContract()
    contract.rule = "fa"
    test(contract, PLACES["hidden"])
    contract.rule = rule()
    with pytest.raises((AssertionError, RuntimeError, UsageError)):
        test(contract, PLACES["hidden"])


@pytest.mark.parametrize(
    ("rule", "options", "reads_weights", "reads_targets"),
    [
        ("ldfa", {"output": "error"}, "no", False),
        ("ldfa-hebb", {"initial": "svd"}, "yes", False),
        ("ldfa-hebb", {"initial": "uniform"}, "no", False),
        ("ldfa-direct", {"source": "output"}, "no", False),
        ("ldfa-direct", {"source": "hidden"}, "no", True),
        ("ldfa-direct", {"source": "hidden", "output": "error"}, "no", False),
    ],
)
def test_what_a_rule_reads_depends_on_its_options(rule, options, reads_weights, reads_targets):
    contract = RuleContract()
    contract.rule = RULES.get(rule)(**options)
    assert (contract.rule.reads_weights, contract.rule.reads_targets) == (reads_weights, reads_targets)
    contract.test_what_it_reads_of_the_weights_is_declared(PLACES["output"])
    contract.test_targets_reach_the_layers_that_the_rule_says_and_are_read(PLACES["output"])


class Scaled(FeedbackAlignment):
    factor: float = 2.0


@dataclass(frozen=True)
class Decorated(Scaled):
    other: int = 1


def test_a_rule_is_a_frozen_dataclass_decorated_or_not():
    assert Scaled(3.0) == Scaled(factor=3.0) != Scaled()
    assert repr(Decorated(factor=3.0)) == "Decorated(factor=3.0, other=1)"
    for rule, name in ((Scaled(), "factor"), (Decorated(), "other")):
        with pytest.raises(FrozenInstanceError, match=f"'{name}'"):
            setattr(rule, name, 0)
        with pytest.raises(FrozenInstanceError, match=f"'{name}'"):
            delattr(rule, name)
