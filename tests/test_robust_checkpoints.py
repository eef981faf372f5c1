"""Checkpoints that are damaged, or of other runs: the run starts anew, to the numbers of an undisturbed one."""

import hashlib
import io
import math
import random
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bench.training.loop
from bench.config import Config
from bench.errors import CannotWrite
from bench.files import CHECKSUM
from bench.training.loop import train, train_together

CONFIG = Config(
    model="mlp", dataset="digits", rule="ldfa", rank="2", model_options={"width": 4}, epochs=2, epoch_examples=128
)
LINEAR = Config(model="linear", dataset="linear-teacher:8", rule="bp", batch_size=0, epochs=2, precision="float64")


def numbers(outcome):
    """All that two runs must share bit for bit."""
    state = {name: tensor.tolist() for name, tensor in outcome.learner.network.state_dict().items()}
    return outcome.status, outcome.first_losses, outcome.history, outcome.final, state


@pytest.fixture(scope="module")
def undisturbed():
    return numbers(train(CONFIG))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a checkpoint after the first epoch."""
    path = tmp_path_factory.mktemp("saved") / "run.pt"
    assert train(CONFIG, checkpoint=path, deadline=time.monotonic()).status == "paused"
    return path.read_bytes()


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Trains from the bytes of a checkpoint; gives the numbers, and whether it was set aside."""
    folder = tmp_path_factory.mktemp("resumed")

    def resumed(content):
        path, aside = folder / "run.pt", folder / "run.broken"
        aside.unlink(missing_ok=True)
        path.write_bytes(content)
        outcome = train(CONFIG, checkpoint=path)
        assert path.exists() != aside.exists()
        return numbers(outcome), aside.exists()

    return resumed


def changed(content, change):
    """A checkpoint whose content `change` alters, with the right checksum."""
    loaded = torch.load(io.BytesIO(content[CHECKSUM:]), weights_only=True)
    change(loaded)
    file = io.BytesIO()
    torch.save(loaded, file)
    return hashlib.sha256(file.getvalue()).digest() + file.getvalue()


def test_a_sound_checkpoint_is_resumed(resumed, saved, undisturbed):
    assert resumed(saved) == resumed(changed(saved, lambda content: None)) == (undisturbed, False)


def test_one_flipped_bit_anywhere_never_gives_other_numbers(resumed, saved, undisturbed):
    places = random.Random(0)
    for _ in range(40):
        place = places.randrange(8 * len(saved))
        content = bytearray(saved)
        content[place // 8] ^= 1 << place % 8
        assert resumed(bytes(content)) == (undisturbed, True)


@settings(max_examples=30)
@given(data=st.data())
def test_any_damage_never_gives_other_numbers(data, resumed, saved, undisturbed):
    start = data.draw(st.integers(0, len(saved)))
    end = data.draw(st.integers(start, len(saved)))
    content = saved[:start] + data.draw(st.binary(max_size=100)) + saved[end:]
    assert resumed(content) == (undisturbed, content != saved)


@settings(max_examples=10)
@given(content=st.one_of(st.binary(max_size=200), st.none()))
def test_what_only_has_the_right_checksum_is_set_aside(content, resumed, undisturbed):
    file = io.BytesIO()
    torch.save(content, file)
    for body in (content or b"", file.getvalue()):
        assert resumed(hashlib.sha256(body).digest() + body) == (undisturbed, True)


class Shell:
    def __reduce__(self):
        return print, ("executed",)


def of_other_shape(content):
    for values in content["states"]["optimiser"]["state"].values():
        values["exp_avg"] = torch.zeros(3)


MISFITS = {
    "no epoch": lambda content: content.pop("epoch"),
    "an epoch in words": lambda content: content.update(epoch="two"),
    "no outcomes": lambda content: content.update(outcomes=[]),
    "an outcome too many": lambda content: content.update(outcomes=2 * content["outcomes"]),
    "half an outcome": lambda content: content["outcomes"][0].pop("history"),
    "no network": lambda content: content["states"].pop("networks"),
    "half a network": lambda content: content["states"]["networks"].popitem(),
    "another network": lambda content: content["states"]["networks"].update({"0.output.bias": torch.zeros(3)}),
    "another optimiser": lambda content: content["states"]["optimiser"]["param_groups"].pop(),
    "another shape": of_other_shape,
    "no schedule": lambda content: content["states"].update(scheduler=None),
    "of other runs": lambda content: content["runs"].update(configs=[replace(CONFIG, seed=1).digest]),
    "of other data": lambda content: content["runs"].update(data={"train": "0", "test": "0"}),
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS)
def test_one_that_loads_but_does_not_fit_is_set_aside(change, resumed, saved, undisturbed):
    assert resumed(changed(saved, change)) == (undisturbed, True)


def test_a_checkpoint_executes_nothing(resumed, saved, undisturbed, capsys):
    file = io.BytesIO()
    torch.save({"runs": Shell()}, file)
    assert resumed(hashlib.sha256(file.getvalue()).digest() + file.getvalue()) == (undisturbed, True)
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "executed" not in err


def test_the_checkpoint_of_another_seed_is_not_taken_up(tmp_path):
    """All its shapes fit."""
    path = tmp_path / "run.pt"
    train(replace(LINEAR, seed=1), checkpoint=path, deadline=time.monotonic())
    assert numbers(train(LINEAR, checkpoint=path)) == numbers(train(LINEAR))


def test_a_population_starts_anew_as_one(tmp_path):
    path, configs = tmp_path / "run.pt", [replace(CONFIG, seed=seed) for seed in range(2)]
    train_together(configs, checkpoint=path, deadline=time.monotonic())
    path.write_bytes(path.read_bytes()[:-1])
    outcomes = train_together(configs, checkpoint=path)
    assert list(map(numbers, outcomes)) == list(map(numbers, train_together(configs)))
    assert outcomes[0].population == 2


# How often


class Clock:
    """A clock that an epoch moves by one second, and that writing a checkpoint moves too."""

    def __init__(self):
        self.now, self.saves = 0.0, []

    def monotonic(self):
        return self.now

    def epoch(self, entry):
        self.now += 1

    def save(self, path, runs, epoch, *rest):
        self.saves.append(epoch)
        self.now += 3.0


def test_checkpoints_are_twenty_times_as_far_apart_as_one_takes(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bench.training.loop, "time", clock)
    monkeypatch.setattr(bench.training.loop, "save", clock.save)
    train(replace(LINEAR, epochs=160), checkpoint=tmp_path / "run.pt", deadline=math.inf, progress=clock.epoch)
    assert clock.saves == [21, 82, 143]


def test_a_checkpoint_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot be written"):
        train(CONFIG, checkpoint=tmp_path / "file/run.pt", deadline=time.monotonic())
