"""Measures along training: right by hand, against autograd on the plain network, and without a trace in the run."""

import gc
import math
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional as F

from bench.config import Config
from bench.conversion import convert_layers
from bench.data import load_once
from bench.models.mlp import MLP
from bench.rules import RULES
from bench.training.alignment import PROBE, angle, effective_ranks, kept_energies, measure
from bench.training.batches import Batches
from bench.training.learner import Learner, build
from bench.training.loop import train

CONFIG = Config(
    model="mlp",
    dataset="digits",
    rule="ldfa",
    rank="3",
    model_options={"width": 16},
    batch_size=128,
    epochs=3,
    precision="float64",
)
LAYERED = [name for name in RULES.names() if not RULES.get(name)().direct]


def under(rule, **changes):
    return replace(CONFIG, rule=rule, rank=CONFIG.rank if RULES.get(rule).ranked else None, **changes)


def learner_and_batch(config):
    data = load_once("digits", 0)
    return build(config, data), *next(Batches(data.train, data, config).in_order())


# The numbers


def test_angles_by_hand():
    assert angle(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])) == pytest.approx(45)
    assert angle(torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.0])) == 180
    assert angle(torch.tensor([0.1, 0.7]), torch.tensor([0.1, 0.7])) == 0
    small = torch.tensor([1.0, 1e-10], dtype=torch.float64)
    assert angle(torch.tensor([1.0, 0.0]), small) == pytest.approx(math.degrees(1e-10))
    assert math.isnan(angle(torch.zeros(2), torch.ones(2)))


@pytest.mark.parametrize(
    ("P", "kept"),
    [
        ([[1, 0], [0, 1], [0, 0]], 9 / 25),
        ([[1, 5], [2, 7], [0, 0]], 9 / 25),
        ([[2, 4], [0, 0], [0, 0]], 9 / 25),
        ([[0], [0], [1]], 16 / 25),
        ([[3], [0], [4]], 1),
    ],
)
def test_kept_energy_by_hand(P, kept):
    """Of an error along (3, 0, 4); it depends on the span of P alone."""
    G = torch.tensor([[3.0, 0.0, 4.0], [-6.0, 0.0, -8.0]])
    other = torch.ones(3, 1), torch.zeros(2, 3)
    found, vanished = kept_energies([(torch.tensor(P, dtype=torch.float32), G), other])
    assert found == pytest.approx(kept) and math.isnan(vanished)


def test_effective_rank_of_known_matrices():
    matrices = [
        torch.eye(7),
        torch.outer(torch.arange(1.0, 5), torch.ones(9)).double(),
        torch.diag(torch.tensor([3.0, 1])),
    ]
    assert effective_ranks(matrices) == pytest.approx([7, 1, 4 / 3**0.75])
    assert math.isnan(effective_ranks([torch.zeros(3, 4)])[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_measures_of_many_matrices_are_those_of_their_singular_values(dtype):
    """Some wide, some tall, some of one size, some of lower rank than their size."""
    generator = Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, dtype=dtype, generator=generator)

    matrices = [random(5, 9), random(9, 5), random(40, 30), random(20, 3) @ random(3, 20), random(5, 7)]
    for matrix, rank in zip(matrices, effective_ranks(matrices), strict=True):
        singular = torch.linalg.svdvals(matrix.double())
        assert rank == pytest.approx(torch.special.entr(singular / singular.sum()).sum().exp().item(), rel=1e-5)
    pairs = [(P, random(11, len(P))) for P in matrices]
    for (P, G), kept in zip(pairs, kept_energies(pairs), strict=True):
        U, singular, _ = torch.linalg.svd(P.double(), full_matrices=False)
        basis = U[:, singular > 1e-5 * singular[0]]
        assert kept == pytest.approx(((G.double() @ basis).norm() / G.double().norm()).square().item(), rel=1e-6)


def error_at_inputs(network, layers, inputs, targets):
    """Gradient of the loss with respect to the input of each layer."""
    found = {}

    def listen(layer, arguments):
        arguments[0].register_hook(partial(found.__setitem__, layer))

    for layer in layers:
        layer.register_forward_pre_hook(listen)
    F.cross_entropy(network(inputs), targets).backward()
    return [found[layer] for layer in layers]


@pytest.mark.parametrize("rule", ["fa", "ldfa", "ldfa-direct", "drtp"])
def test_errors_are_those_of_the_rule_and_of_the_plain_network(rule):
    learner, inputs, targets = learner_and_batch(under(rule))
    measured = measure(learner, inputs, targets)
    plain = MLP(load_once("digits", 0), width=16).double()
    plain.load_state_dict({k: t for k, t in learner.network.state_dict().items() if "feedback" not in k})
    learner.tell(learner.as_told(targets, inputs.dtype))
    sent = error_at_inputs(learner.network, learner.layers.values(), inputs, targets)
    exact = error_at_inputs(plain, [plain.hidden[1][0], plain.hidden[2][0], plain.output], inputs, targets)
    for layer, error, bp_error in zip(measured.values(), sent, exact, strict=True):
        assert layer["error_norm"] == pytest.approx(error.norm().item(), rel=1e-5)
        assert layer["bp_norm"] == pytest.approx(bp_error.norm().item(), rel=1e-5)
        cosine = F.cosine_similarity(error.flatten(), bp_error.flatten(), dim=0)
        assert layer["error_angle"] == pytest.approx(cosine.acos().rad2deg().item(), rel=1e-5)
        assert layer["error_angle"] > 10


def test_backpropagation_beside_the_rule_is_not_clipped():
    clipped, free = (measure(*learner_and_batch(replace(CONFIG, clip=clip))) for clip in (1e-5, None))
    for label in ("B1", "B2", "B3"):
        assert clipped[label]["bp_norm"] == free[label]["bp_norm"]
    assert clipped["B3"]["error_norm"] == free["B3"]["error_norm"]
    assert clipped["B1"]["error_norm"] < free["B1"]["error_norm"]


@pytest.mark.parametrize("rule", ["bp", "fa", "kp"])
def test_with_the_forward_weights_as_feedback_all_angles_are_zero(rule):
    learner, inputs, targets = learner_and_batch(under(rule))
    for layer in learner.layers.values():
        for B in layer.feedback.values():
            B.data.copy_(layer.weight)
    for layer in measure(learner, inputs, targets).values():
        assert layer["error_angle"] == layer["weight_angle"] == 0
        assert layer["error_norm"] == layer["bp_norm"] > 0 and layer["kept_energy"] is None


def test_a_direct_rule_has_no_weight_angle_and_keeps_part_of_the_output_error():
    learner, inputs, targets = learner_and_batch(under("ldfa-direct"))
    outputs = learner.network(inputs)
    error = (outputs.softmax(1) - F.one_hot(targets, 10)).detach()
    for label, layer in measure(learner, inputs, targets).items():
        (kept,) = kept_energies([(learner.layers[label].feedback["P"].detach(), error)])
        assert layer["weight_angle"] is None and layer["kept_energy"] == pytest.approx(kept, rel=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-14])
def test_an_error_that_vanished_has_no_angle(scale):
    learner, inputs, targets = learner_and_batch(under("bp"))
    learner.layers["B3"].weight.data.mul_(scale)
    measured = measure(learner, inputs, targets)
    assert [layer["error_angle"] for layer in measured.values()] == [None] * 3
    assert (measured["B3"]["error_norm"] == 0) == (scale == 0)
    assert (measured["B1"]["update_rank"] is None) == (measured["B3"]["weight_angle"] is None) == (scale == 0)


def test_passes_that_are_not_finite_have_no_measures():
    learner, inputs, targets = learner_and_batch(CONFIG)
    learner.layers["B1"].weight.data[0, 0] = math.nan
    assert measure(learner, inputs, targets) == {}


def test_every_layered_rule_has_a_weight_angle_unless_its_feedback_is_drawn_anew():
    angles = {rule: measure(*learner_and_batch(under(rule)))["B1"]["weight_angle"] for rule in LAYERED}
    assert [rule for rule, found in angles.items() if found is None] == ["brsf"]
    assert 0 == angles["bp"] < angles["usf"] < angles["frsf"] < 50 < angles["fa"] == angles["kp"]


# No trace in training


def dropout_network(rule):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Linear(20, 30), nn.Dropout(0.5), nn.Linear(30, 10))
    layers, _ = convert_layers(network, {"B1": "2", "B2": "4"}, rule, {"B1": None, "B2": None}, Generator(), output="4")
    return Learner(network, layers, rule, [layers["B2"]], 10, [])


def test_both_passes_have_the_same_dropout():
    _, inputs, targets = learner_and_batch(replace(CONFIG, precision="float32"))
    measured = measure(dropout_network(RULES.get("bp")()), inputs, targets)
    assert [layer["error_angle"] for layer in measured.values()] == [0, 0]


@pytest.mark.parametrize("rule", ["brsf", "ldfa-direct"])
def test_a_measure_leaves_the_learner_and_the_random_numbers_as_they_are(rule):
    learner, inputs, targets = learner_and_batch(under(rule))
    F.cross_entropy(learner.network(inputs), targets).backward()
    learner.network.eval()

    def everything():
        state = {name: tensor.tolist() for name, tensor in learner.network.state_dict().items()}
        grads = [None if p.grad is None else p.grad.tolist() for p in learner.network.parameters()]
        layers = [(layer.rule, layer.clip, layer.targets, layer.training) for layer in learner.layers.values()]
        return state, grads, layers, torch.get_rng_state().tolist()

    before = everything()
    first = measure(learner, inputs, targets)
    torch.rand(3)
    assert measure(learner, inputs, targets) == first
    torch.set_rng_state(torch.tensor(before[-1], dtype=torch.uint8))
    measure(learner, inputs, targets)
    assert everything() == before


def without_layers(outcome):
    state = {name: tensor.tolist() for name, tensor in outcome.learner.network.state_dict().items()}
    history = [{k: v for k, v in entry.items() if k != "layers"} for entry in outcome.history if entry["epoch"]]
    return outcome.first_losses, history, outcome.final, state


def test_a_run_with_measures_is_the_run_without_and_resumes_to_it(tmp_path):
    plain, measured = train(CONFIG), train(replace(CONFIG, measure_every=2))
    assert without_layers(measured) == without_layers(plain)
    status = "paused"
    while status == "paused":
        resumed = train(replace(CONFIG, measure_every=2), checkpoint=tmp_path / "run.pt", deadline=time.monotonic())
        status = resumed.status
    assert without_layers(resumed) == without_layers(plain) and resumed.history == measured.history


def test_entries_of_the_history_are_measured_at_the_start_every_few_epochs_and_at_the_end():
    outcome = train(replace(CONFIG, epochs=7, log_every=2, measure_every=3))
    assert [(entry["epoch"], "layers" in entry) for entry in outcome.history] == [
        (0, True),
        (2, False),
        (4, False),
        (6, True),
        (7, True),
    ]
    assert all(list(entry["layers"]) == ["B1", "B2", "B3"] for entry in outcome.history if "layers" in entry)
    learner, inputs, targets = learner_and_batch(CONFIG)
    assert outcome.history[0] == {"epoch": 0, "layers": measure(learner, inputs, targets)}


def test_the_probe_batch_is_bounded():
    outcome = train(replace(CONFIG, epochs=1, batch_size=0, measure_every=1))
    learner, inputs, targets = learner_and_batch(replace(CONFIG, batch_size=0))
    assert len(inputs) > PROBE
    assert outcome.history[0]["layers"] == measure(learner, inputs[:PROBE], targets[:PROBE])


def test_a_diverging_run_with_measures_ends_as_diverged():
    assert train(replace(CONFIG, lr=1e300, measure_every=1)).status == "diverged"


def test_a_measure_leaves_nothing_in_memory():
    learner, inputs, targets = learner_and_batch(under("ldfa"))
    measure(learner, inputs, targets)
    tensors = []
    for _ in range(2):
        measure(learner, inputs, targets)
        gc.collect()
        tensors.append(sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()))
    assert tensors[0] == tensors[1]
