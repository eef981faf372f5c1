"""The tests that every learning rule passes, built-in or from another package. With pytest:

class TestMine(RuleContract):
    rule = "my-rule"
"""

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from bench.layers import LAYERS, RuleLayer, feedback_like, initial_feedback
from bench.layers.direct import source_for
from bench.rules import RULES
from bench.rules.base import Feedback, Rule, Signals, full_rank

Gradients = dict[str, Tensor | None]
"""By tensor name; None for a tensor without a gradient."""
EXAMPLES, IN, OUT, CLASSES = 6, 5, 7, 4
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-10}
SAME: dict[str, Any] = {"rtol": 0, "atol": 0}


class Place(NamedTuple):
    """A layer and its place: the unconverted layer, the shape of its input, and whether it is told the targets."""

    plain: Callable[[], nn.Module]
    shape: tuple[int, ...]
    output: bool = False


PLACES = {
    "hidden": Place(partial(nn.Linear, IN, OUT), (EXAMPLES, IN)),
    "output": Place(partial(nn.Linear, IN, OUT), (EXAMPLES, IN), output=True),
    "tokens": Place(partial(nn.Linear, IN, OUT), (EXAMPLES, 3, IN)),
    "convolution": Place(partial(nn.Conv2d, IN, OUT, 3, padding=1), (EXAMPLES, IN, 6, 6)),
    "stride 2": Place(partial(nn.Conv2d, IN, OUT, 3, stride=2, padding=1), (EXAMPLES, IN, 6, 6)),
}

everywhere = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


class RuleContract:
    """Subclasses set `rule`: its name, or a `Rule` instance to test particular options."""

    rule: ClassVar[str | Rule]

    @everywhere
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
    def test_shapes_and_dtypes(self, place: Place, dtype: torch.dtype) -> None:
        """The error sent down has the shape of the input, each gradient that of its feedback tensor; both have the
        weight's dtype.
        """
        layer, x, g = self.step(place, dtype)
        feedback = feedback_of(layer)
        direct = layer.source and layer.source.error
        signals = Signals(layer.operator, layer.weight.detach(), x, g, layer.targets, direct)
        sent, gradients = layer.rule.backward(signals, feedback)
        assert (sent.shape, sent.dtype) == (x.shape, dtype)
        assert gradients.keys() <= feedback.keys()
        assert all(tensor.dtype == dtype for tensor in feedback.values())
        for name, gradient in gradients.items():
            assert (gradient.shape, gradient.dtype) == (feedback[name].shape, dtype), name

    @everywhere
    def test_bfloat16_autocast(self, place: Place) -> None:
        """With the forward pass in bfloat16, all gradients are finite and in the dtype of the parameters."""
        layer, x, g = self.step(place, torch.float32)
        if layer.source and layer.source.error is not None:
            layer.source.error = layer.source.error.bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x.requires_grad_().bfloat16())
        y.backward(g.bfloat16())
        assert y.dtype == torch.bfloat16
        for name, tensor in {"x": x, **dict(layer.named_parameters())}.items():
            gradient = tensor.grad
            assert gradient is not None or name.startswith("feedback"), name
            assert gradient is None or (gradient.dtype == torch.float32 and gradient.isfinite().all()), name

    @everywhere
    def test_forward_pass_is_the_plain_layer(self, place: Place) -> None:
        layer, x, _ = self.step(place)
        assert torch.equal(layer(x), plain(place)(x))

    @everywhere
    def test_backward_pass_changes_no_tensor(self, place: Place) -> None:
        layer, x, g = self.step(place)
        heard = [layer.targets, layer.source.error if layer.source else None]
        tensors = [x, g, *layer.parameters(), *(tensor for tensor in heard if tensor is not None)]
        before = [tensor.detach().clone() for tensor in tensors]
        gradients_of(layer, x, g)
        torch.testing.assert_close(tensors, before, **SAME)

    @everywhere
    def test_weight_and_bias_get_the_exact_local_gradient(self, place: Place) -> None:
        layer, x, g = self.step(place)
        found, exact = gradients_of(layer, x, g), gradients_of(plain(place), x, g)
        for name in ("weight", "bias"):
            torch.testing.assert_close(found[name], exact[name], **CLOSE)

    @everywhere
    def test_the_error_goes_down_through_the_feedback_matrix(self, place: Place) -> None:
        layer, x, g = self.step(place)
        matrix = layer.rule.feedback_matrix(layer.weight.detach(), feedback_of(layer))
        if layer.source or matrix is None:
            pytest.skip("only for rules that are not direct and have one tensor in place of the weight")
        torch.testing.assert_close(
            gradients_of(layer, x, g)["x"], layer.operator.transpose(matrix, g, x.shape), **CLOSE
        )

    @everywhere
    def test_a_feedback_matrix_that_is_the_weight_sends_the_exact_error(self, place: Place) -> None:
        layer, x, g = self.step(place)
        if layer.source or "B" not in layer.feedback or layer.feedback["B"].shape != layer.weight.shape:
            pytest.skip("only for rules that are not direct and have B in place of the weight")
        layer.feedback["B"].data.copy_(layer.weight)
        torch.testing.assert_close(gradients_of(layer, x, g)["x"], gradients_of(plain(place), x, g)["x"], **CLOSE)

    @everywhere
    def test_full_rank_factors_of_the_weight_send_the_exact_error(self, place: Place) -> None:
        layer, x, g = self.step(place, rank=None)
        if layer.source or not {"P", "Q"} <= layer.feedback.keys():
            pytest.skip("only for rules that are not direct and have P Q in place of the weight")
        U, S, Vh = torch.linalg.svd(layer.weight.detach().flatten(1), full_matrices=False)
        layer.feedback["P"].data.copy_(U * S)
        layer.feedback["Q"].data.copy_(Vh.view_as(layer.feedback["Q"]))
        torch.testing.assert_close(gradients_of(layer, x, g)["x"], gradients_of(plain(place), x, g)["x"], **CLOSE)

    @pytest.mark.parametrize("rank", [2, None], ids=["rank 2", "full rank"])
    @everywhere
    def test_what_is_fixed_gets_no_gradient_and_the_rest_gets_one(self, place: Place, rank: int | None) -> None:
        layer, x, g = self.step(place, rank=rank)
        assert layer.fixed <= layer.feedback.keys()
        assert {name for name, tensor in layer.feedback.items() if not tensor.requires_grad} == layer.fixed
        layer(x).backward(g)
        assert {name for name, tensor in layer.feedback.items() if tensor.grad is None} == layer.fixed

    @pytest.mark.parametrize("rank", [2, None], ids=["rank 2", "full rank"])
    @everywhere
    def test_what_is_fixed_stays_to_the_bit_under_decay_and_double_backward(
        self, place: Place, rank: int | None
    ) -> None:
        """The optimiser has all parameters, and the loss includes the norm of the error sent down."""
        layer, x, g = self.step(place, rank=rank)
        optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
        before = {name: layer.feedback[name].detach().clone() for name in layer.fixed}
        y = layer(x.requires_grad_())
        (sent,) = torch.autograd.grad(y, x, g, create_graph=True)
        (sent.square().sum() + (y * g).sum()).backward()
        optimiser.step()
        torch.testing.assert_close({name: layer.feedback[name].detach() for name in before}, before, **SAME)
        assert not any(layer.feedback[name] in optimiser.state for name in before)

    @everywhere
    def test_gradients_grow_with_the_loss_or_are_declared_not_to(self, place: Place) -> None:
        """With a loss 1024 times as large, gradients are 1024 times as large, or unchanged if the rule declares it."""
        layer, x, g = self.step(place)
        expected = gradients_of(layer, x, g)
        if layer.source and layer.source.error is not None:
            layer.source.error = 1024 * layer.source.error
        found = gradients_of(layer, x, 1024 * g)
        for name, gradient in expected.items():
            said = "error" if name == "x" else name.removeprefix("feedback.")
            factor = 1 if said in layer.rule.scale_free else 1024
            if gradient is not None:
                torch.testing.assert_close(found[name], factor * gradient, rtol=1e-5, atol=1e-10)

    @everywhere
    def test_what_it_reads_of_the_weights_is_declared(self, place: Place) -> None:
        """In the initial feedback and in the error sent down; how the feedback learns is not checked."""
        layer, x, g = self.step(place)
        W = layer.weight.detach().clone()

        def given(factor: float) -> dict[str, Any]:
            """The initial feedback and, with unchanged feedback, the error sent down, for W times `factor`."""
            layer.weight.data.copy_(factor * W)
            seed = Generator().manual_seed(0)
            start, _ = initial_feedback(layer.operator, layer.weight, layer.rule, layer.rank, seed, layer.source)
            return start | {"x": gradients_of(layer, x, g)["x"]}

        def differs(factor: float) -> bool:
            return any(not torch.equal(tensor, at_first[name]) for name, tensor in given(factor).items())

        at_first = given(1)
        assert layer.rule.reads_weights == ("yes" if differs(2) else "sign" if differs(-1) else "no")

    @everywhere
    def test_targets_reach_the_layers_that_the_rule_says_and_are_read(self, place: Place) -> None:
        layer, x, g = self.step(place)
        told = layer.rule.told == "all" or (layer.rule.told == "output" and place.output)
        if not told and not place.output:
            pytest.skip("only for layers that are told the targets, or could be")
        assert layer.targets is not None
        one = gradients_of(layer, x, g)
        layer.targets = one_hot(layer.targets.shape[1], shift=1).to(x.dtype)
        assert differ(one, gradients_of(layer, x, g)) == told

    @everywhere
    def test_one_seed_gives_one_result(self, place: Place) -> None:
        first, second = (gradients_of(*self.step(place)) for _ in range(2))
        torch.testing.assert_close(first, second, **SAME)

    @everywhere
    def test_random_numbers_are_declared(self, place: Place) -> None:
        layer, x, g = self.step(place)
        one, other = (gradients_of(layer, x, g, seed) for seed in (0, 1))
        assert layer.rule.draws == differ(one, other)

    @everywhere
    def test_a_factor_padded_with_zeros_acts_as_it_does_without(self, place: Place) -> None:
        """This is what allows networks of different ranks to be stacked."""
        layer, x, g = self.step(place)
        if not layer.rule.ranked or layer.rule.direct:
            pytest.skip("a rule without a rank, or a direct one, is never padded")
        padded, _, _ = self.step(place, rank=3)
        padded.load_state_dict({**layer.state_dict(), **padded.feedback.state_dict(prefix="feedback.")})
        parts = {name: tuple(map(slice, tensor.shape)) for name, tensor in layer.feedback.items()}
        with torch.no_grad():
            for name, part in parts.items():
                padded.feedback[name].zero_()[part].copy_(layer.feedback[name])
        expected, found = gradients_of(layer, x, g), gradients_of(padded, x, g)
        torch.testing.assert_close(found.pop("x"), expected.pop("x"), **CLOSE)
        for name, part in parts.items():
            gradient, wanted = found[f"feedback.{name}"], expected[f"feedback.{name}"]
            if wanted is not None:
                assert gradient is not None
                torch.testing.assert_close(gradient[part], wanted, **CLOSE)
                gradient[part] = 0
                assert not gradient.any()

    @pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
    @everywhere
    def test_a_population_is_its_networks_one_by_one(self, place: Place) -> None:
        """Three layers at once under `torch.func`; values that a rule draws at random differ and are not compared."""
        layers, xs, (g, *_) = zip(*(self.step(place, seed=seed) for seed in range(3)), strict=True)
        if layers[0].rule.source:
            pytest.skip("a direct rule hears its error through a Source, which torch.func cannot stack")

        def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            return (functional_call(layers[0], parameters, (x,)) * g).sum()

        parameters, _ = stack_module_state(layers)
        together = vmap(grad(loss, argnums=(0, 1)), randomness="different")(parameters, torch.stack(xs))
        together = {**together[0], "x": together[1]}
        for index, (layer, x) in enumerate(zip(layers, xs, strict=True)):
            alone, again = (gradients_of(layer, x, g, seed=seed) for seed in range(2))
            for name, gradient in alone.items():
                if gradient is None:
                    assert not together[name][index].any(), name
                elif not differ({name: gradient}, again):
                    torch.testing.assert_close(together[name][index], gradient, **CLOSE)

    @everywhere
    def test_no_graph_is_kept_between_steps(self, place: Place) -> None:
        layer, x, g = self.step(place)
        hidden = x.requires_grad_() * 1
        y = layer(hidden)
        y.backward(g)
        graph = [weakref.ref(hidden), weakref.ref(y)]
        del hidden, y
        assert [tensor() for tensor in graph] == [None, None]
        assert not any(tensor.grad.requires_grad for tensor in [x, *layer.parameters()] if tensor.grad is not None)

    def step(
        self, place: Place, dtype: torch.dtype = torch.float64, rank: int | None = 2, seed: int = 0
    ) -> tuple[RuleLayer, Tensor, Tensor]:
        """A layer under the rule (at full rank if `rank` is None), its input x and the error g at its output."""
        rule = RULES.get(self.rule)() if isinstance(self.rule, str) else self.rule
        generator = Generator().manual_seed(seed)
        under = plain(place, dtype, seed)
        source = None if place.output and rule.source == "hidden" else source_for(rule, CLASSES)
        if rule.source and source:
            source.error = torch.randn(EXAMPLES, CLASSES, dtype=dtype, generator=generator)
        rank = rank or full_rank(feedback_like(under.get_parameter("weight"), source))
        layer = LAYERS[type(under)].from_plain(under, rule, rank, generator, None, source)
        if rule.told == "all":
            layer.targets = one_hot(CLASSES).to(dtype)
        elif place.output:
            layer.targets = one_hot(OUT).to(dtype)
        x = torch.randn(place.shape, dtype=dtype, generator=generator)
        g = torch.randn(layer(x).shape, dtype=dtype, generator=generator)
        return layer, x, g


def one_hot(classes: int, shift: int = 0) -> Tensor:
    """One-hot targets of the examples, (examples, classes)."""
    return F.one_hot((torch.arange(EXAMPLES) + shift) % classes, classes)


def plain(place: Place, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """The layer without a rule."""
    torch.manual_seed(seed)
    return place.plain().to(dtype)


def feedback_of(layer: RuleLayer) -> Feedback:
    """The feedback tensors, detached."""
    return {name: tensor.detach() for name, tensor in layer.feedback.items()}


def gradients_of(layer: nn.Module, x: Tensor, g: Tensor, seed: int = 0) -> Gradients:
    """The error sent down, as `x`, and the gradient of each parameter; None if it gets none.

    `seed` seeds the random numbers that the rule draws.
    """
    torch.manual_seed(seed)
    tensors = {"x": x.detach().requires_grad_(), **dict(layer.named_parameters())}
    asked = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    found = torch.autograd.grad(layer(tensors["x"]), tuple(asked.values()), g, allow_unused=True)
    return dict.fromkeys(tensors) | dict(zip(asked, found, strict=True))


def differ(one: Gradients, other: Gradients) -> bool:
    """Whether some gradient of `one` differs in `other` in any bit, or is missing there."""
    pairs = ((gradient, other[name]) for name, gradient in one.items() if gradient is not None)
    return any(there is None or not torch.equal(gradient, there) for gradient, there in pairs)
