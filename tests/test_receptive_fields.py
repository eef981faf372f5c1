"""Receptive fields: found in networks whose fields are known, and numbers that tell known fields apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator
from torch.nn import functional as F

from bench.config import Config
from bench.data import load
from bench.models._receptive_fields import SCALE, by_ascent, by_noise, rounded
from bench.training.learner import build
from bench.training.loop import train
from replication.claims import CLAIMS
from replication.figures import FIGURES
from replication.receptive_fields import (
    centre_surround_index,
    describe,
    fit_difference_of_gaussians,
    fit_gabor,
    numbers_of,
    orientation_selectivity,
)
from replication.results import results
from replication.verdicts import ClaimVerdict

SIZE = 17
Y, X = np.indices((SIZE, SIZE)) - 8.0
RETINA = Config(
    model="retina",
    dataset="digits",
    rule="fa",
    model_options={"channels": 3, "hidden": 8},
    optimiser="rmsprop",
    batch_size=64,
    precision="float64",
)


def difference_of_gaussians(y=0.0, x=0.0, surround=0.9, width=1.8):
    squared = (Y - y) ** 2 + (X - x) ** 2
    return np.exp(-squared / 2 / width**2) - surround / 4 * np.exp(-squared / 8 / width**2)


def gabor(angle, phase, frequency=0.12, y=0.0, x=0.0):
    u = (X - x) * np.cos(angle) + (Y - y) * np.sin(angle)
    v = (Y - y) * np.cos(angle) - (X - x) * np.sin(angle)
    return np.exp(-(u**2) / 2 / 2.5**2 - v**2 / 2 / 3**2) * np.cos(2 * np.pi * frequency * u + phase)


def noise(seed=0):
    return np.random.default_rng(seed).standard_normal((SIZE, SIZE))


def noisy(field, share):
    """The field with white noise of `share` of its standard deviation."""
    return field / field.std() + share * noise()


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


# Finding them


def linear_units(kernels):
    return lambda images: images.flatten(1) @ kernels.flatten(1).T


def test_the_field_of_a_linear_unit_is_its_kernel():
    kernels = torch.randn(4, SIZE, SIZE, dtype=torch.float64, generator=Generator().manual_seed(1))
    found = by_ascent(linear_units(kernels), 4, SIZE)
    torch.testing.assert_close(found, kernels / kernels.square().mean((1, 2), keepdim=True).sqrt())
    by_correlation = by_noise(linear_units(kernels), 4, SIZE)
    assert (by_correlation * kernels).sum() / kernels.square().sum() == pytest.approx(1, abs=0.03)
    assert all(correlation(a, b) > 0.97 for a, b in zip(by_correlation, kernels, strict=True))


def test_ascent_follows_the_gradient_as_the_image_moves():
    """A unit that is a at a blank image, and b once some of a is shown: its field has both."""
    a, b = torch.randn(2, SIZE * SIZE, dtype=torch.float64, generator=Generator().manual_seed(1))

    def unit(images):
        flat = images.flatten(1)
        return flat @ a[:, None] + 2 * (flat @ b[:, None] + flat @ a[:, None] - 30).relu()

    field = by_ascent(unit, 1, SIZE)
    assert correlation(field, a) > 0.3 and correlation(field, b) > 0.3


def test_a_unit_that_a_blank_image_silences_has_a_field():
    kernel = torch.randn(1, SIZE * SIZE, dtype=torch.float64, generator=Generator().manual_seed(1))

    def hidden_off(images):
        return (images.flatten(1) @ kernel.T - 5).relu() - 1

    assert correlation(by_ascent(hidden_off, 1, SIZE), kernel) > 0.99
    assert not by_ascent(lambda images: images.flatten(1)[:, :1] * 0, 1, SIZE).any()


def test_noise_finds_no_field_in_an_even_unit():
    found = by_noise(lambda images: images.flatten(1).square(), SIZE * SIZE, SIZE)
    assert found.abs().max() < 1e-12


def test_recorded_fields_are_thousandths_of_their_peak():
    fields = torch.tensor([[[0.5, -2.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert rounded(fields) == [[SCALE // 4, -SCALE, SCALE // 2, 0], [0, 0, 0, 0]]


@pytest.fixture(scope="module")
def outcome():
    return train(RETINA)


def test_centre_units_are_those_of_a_larger_image_before_the_relu(outcome):
    network = outcome.learner.network
    image = torch.randn(5, 1, 40, 40, dtype=torch.float64, generator=Generator().manual_seed(0))
    row, column = 19, 21
    seen = image[:, :, row - 8 : row + 9, column - 8 : column + 9]
    with torch.no_grad():
        torch.testing.assert_close(network.centre_units(seen).relu(), network.retina(image)[:, :, row, column])
        assert (network.centre_units(seen) < 0).any()


def test_the_gradients_behind_a_field_are_exact_under_every_rule(outcome):
    """`fa` sends another error down, but its network's gradients are here those of the same weights under `bp`."""
    network = outcome.learner.network
    plain = build(replace(RETINA, rule="bp"), load("digits")).network
    plain.load_state_dict({name: t for name, t in network.state_dict().items() if "feedback" not in name})
    plain.eval()
    image = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(plain.retina[:-1](image)[0, 1, 8, 8], image)
    (found,) = torch.autograd.grad(network.centre_units(image)[0, 1], image)
    (sent,) = torch.autograd.grad(network.retina[:-1](image)[0, 1, 8, 8], image)
    torch.testing.assert_close(found, exact)
    assert not torch.allclose(sent, exact)


def test_a_record_says_how_often_a_channel_is_active(outcome):
    network = outcome.learner.network
    inputs = torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=Generator().manual_seed(0))
    active = network.measure_trained(inputs)["receptive_fields"]["active"]
    hidden = network.retina(F.conv2d(inputs, network.luminance))
    assert active == [float(f"{float((hidden[:, c] > 0).double().mean()):.4g}") for c in range(3)]
    assert min(active) > 0 and max(active) < 1


# Numbers


@pytest.mark.parametrize("share", [0, 0.3])
@pytest.mark.parametrize(("y", "x"), [(0, 0), (2, -3)])
@pytest.mark.parametrize("sign", [1, -3])
def test_a_difference_of_gaussians_is_centre_surround_and_not_oriented(sign, y, x, share):
    field = noisy(sign * difference_of_gaussians(y, x), share)
    assert centre_surround_index(field) > 0.65
    assert orientation_selectivity(field) < 0.1
    assert describe(field)[0] == "centre-surround"


@pytest.mark.parametrize("share", [0, 0.3])
@pytest.mark.parametrize("angle", [0, 0.5, 1.2])
@pytest.mark.parametrize("phase", [0, np.pi / 4, np.pi / 2])
def test_a_gabor_is_oriented_and_not_centre_surround(angle, phase, share):
    field = noisy(gabor(angle, phase), share)
    assert centre_surround_index(field) < 0.4
    assert orientation_selectivity(field) > 0.5
    assert describe(field)[0] == "oriented"


def test_noise_is_neither():
    fields = [noise(seed) for seed in range(100)]
    assert np.mean([centre_surround_index(field) for field in fields]) == pytest.approx(0.06, abs=0.01)
    assert np.mean([orientation_selectivity(field) for field in fields]) == pytest.approx(0.18, abs=0.02)
    assert {describe(field)[0] for field in fields[:10]} == {"neither"}


def test_a_blob_is_neither():
    for share in (0, 0.3):
        blob = noisy(difference_of_gaussians(surround=0), share)
        assert centre_surround_index(blob) < 0.1 and orientation_selectivity(blob) < 0.1
        assert describe(blob)[0] == "neither"


def test_fits_recover_their_own_model_and_pay_for_their_parameters():
    shifted = gabor(0.7, 1.0, y=1.5, x=-2.0)
    assert fit_gabor(shifted).explained > 0.999 > fit_difference_of_gaussians(shifted).explained
    centred = difference_of_gaussians(1.0, 2.5)
    assert fit_difference_of_gaussians(centred).explained > 0.999 > fit_gabor(centred).explained
    field = noisy(centred, 0.5)
    for fit, parameters in ((fit_difference_of_gaussians(field), 6), (fit_gabor(field), 8)):
        residual = np.mean((field - fit.image * np.linalg.norm(field)) ** 2) / np.linalg.norm(field) ** 2
        assert fit.explained == pytest.approx(1 - residual * field.size)
        assert fit.aic == pytest.approx(field.size * np.log(residual) + 2 * (parameters + 1))


def test_the_numbers_of_a_run_leave_dead_channels_out():
    fields = torch.tensor(np.stack([difference_of_gaussians(), gabor(0, 0), np.zeros((SIZE, SIZE)), noise()]))
    ascent = rounded(fields)
    found = {"ascent": ascent, "noise": [ascent[0], ascent[3], ascent[2], ascent[3]], "active": [0.5, 0.2, 0.3, 0.0]}
    first, second, *dead = numbers_of({"trained": {"receptive_fields": found}})
    assert (first.kind, second.kind, dead) == ("centre-surround", "oriented", [None, None])
    assert first.agreement == pytest.approx(1) and abs(second.agreement) < 0.2


# The claim


def grid(fields, seeds=5, others=None):
    """The grid at scale quick: in each setting both channels of every seed have its field, under some noise.

    `others` are records of `ldfa B2=1`, by seed, in place of those.
    """
    found = results("retina", "quick")
    cells = []
    for cell in found.cells:
        records = {seed: record(fields[cell.label], seed) for seed in range(seeds)}
        cells.append(replace(cell, records=records | (others or {} if cell.label == "ldfa B2=1" else {})))
    return replace(found, cells=tuple(cells))


def record(field, seed, active=0.5):
    pixels = rounded(torch.tensor(np.stack([field / field.std() + 0.1 * noise(2 * seed + i) for i in (0, 1)])))
    found = {"ascent": pixels, "noise": pixels, "active": [active, 0.5]}
    return {
        "status": "ok",
        "config": {"seed": seed},
        "history": [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 2.0}],
        "final": {"accuracy": 50.0 + seed},
        "trained": {"receptive_fields": found},
    }


CENTRED, ORIENTED = difference_of_gaussians(), gabor(0.5, 0.3)
CLAIMED = {
    "bp": ORIENTED,
    "ldfa B2=1": CENTRED,
    "ldfa r=full": ORIENTED,
    "bp bottleneck=1": CENTRED,
    "ldfa r=1": CENTRED,
}
DIVERGED = {"status": "diverged"}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, ClaimVerdict.HOLDS),
        ({"fields": CLAIMED | {"ldfa B2=1": ORIENTED, "ldfa r=full": CENTRED}}, ClaimVerdict.FAILS),
        ({"fields": CLAIMED | {"bp": CENTRED, "ldfa B2=1": ORIENTED}}, ClaimVerdict.FAILS),
        ({"seeds": 4}, ClaimVerdict.TOO_FEW),
        ({"others": {0: DIVERGED}}, ClaimVerdict.OPEN),
        ({"seeds": 0}, ClaimVerdict.NOT_RUN),
    ],
    ids=["holds", "the other way round", "bp is centred", "four seeds", "one diverged", "nothing"],
)
def test_the_claim(changes, verdict):
    judgement = CLAIMS.get("r1").judge(grid(**({"fields": CLAIMED} | changes)))
    assert judgement.verdict is verdict and judgement.remark == ""


def test_the_claim_is_not_judged_where_the_fields_of_bp_are_noise():
    judgement = CLAIMS.get("r1").judge(grid(CLAIMED | {"bp": noise(99)}))
    assert judgement.verdict is ClaimVerdict.OPEN
    assert judgement.remark.startswith("Not judged: the models explain")
    assert "these runs see 15,564 images, those at scale `gpu` 700,000" in judgement.remark


def test_dead_channels_change_no_mean_and_a_run_of_them_counts_against_the_claim():
    claim = CLAIMS.get("r1")
    whole, one_dead = (
        claim.judge(grid(CLAIMED, others={0: record(CENTRED, 0, active)})).parts[0] for active in (0.5, 0.0)
    )
    assert one_dead.verdict is whole.verdict and one_dead.estimate == pytest.approx(whole.estimate, abs=0.02)
    dead = record(CENTRED, 0)
    dead["trained"]["receptive_fields"]["active"] = [0.0, 0.0]
    found = claim.judge(grid(CLAIMED, others={0: dead}))
    assert found.parts[0].estimate < whole.estimate - 0.1
    assert found.parts[0].number.endswith("1 without a live channel counted against it")
    assert "ldfa B2=1 8 centre-surround, 0 oriented, 0 neither and 2 dead" in found.notes[0]


def test_the_notes_say_when_training_got_better_than_chance():
    assert CLAIMS.get("r1").judge(grid(CLAIMED)).notes[2] == (
        "Epochs until the training loss is below that of chance: bp 2, ldfa B2=1 2, ldfa r=full 2."
    )


def test_the_table_of_the_claim():
    details = CLAIMS.get("r1").details(grid(CLAIMED, others={1: record(CENTRED, 1, active=0.0)}))
    table = details.numbers.set_index("setting")
    assert list(table.index) == list(CLAIMED) and len(details.text) == 5
    assert list(table["centre-surround"]) == [0.0, 0.9, 0.0, 1.0, 1.0] and table["dead"]["ldfa B2=1"] == 0.1
    assert table["oriented"]["bp"] == 1
    assert table["centre_surround_low"]["ldfa B2=1"] > 0.6 and table["orientation_low"]["bp"] > 0.5
    assert CLAIMS.get("r1").details(grid(CLAIMED, seeds=0)) is None


def test_the_figure_shows_every_channel_of_every_seed():
    found = grid(CLAIMED, others={1: record(CENTRED, 1, active=0.0)})
    figure, channels = FIGURES.get("retina")(found)
    assert len(channels) == 5 * 5 * 2 and (channels["kind"] == "dead").sum() == 1
    fields, centred, oriented, _ = figure.axes
    assert len(fields.images) == 5 * 2
    for ax, index in ((centred, "centre_surround"), (oriented, "orientation")):
        drawn = np.concatenate([line.get_xdata() for line in ax.lines])
        assert set(channels[index].dropna()) <= set(drawn)
