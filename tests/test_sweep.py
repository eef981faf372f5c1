"""Sweeps: records do not depend on how often the sweep was killed."""

import fcntl
import json
import math
import multiprocessing
import random
import textwrap
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from forks import FORKS

import bench.data
import bench.rules
import bench.sweeps.executors.local
import bench.sweeps.groups
import bench.training.loop
from bench.commands.plans import time_left
from bench.config import Config
from bench.records.store import Store
from bench.sweeps.executors.local import Workers, run_all
from bench.sweeps.missing import Plan, missing

CONFIG = Config(
    model="mlp", dataset="digits", rule="bp", model_options={"width": 16}, batch_size=128, epochs=10, augment=("flip",)
)
CONFIGS = [
    replace(CONFIG, rule=rule, rank=rank, seed=seed)
    for rule, rank in (("bp", None), ("kp", None), ("ldfa", "3"), ("ldfa-q", "B1=2"))
    for seed in range(2)
]


def sweep(folder, configs, plugins=None, population=1, room=None):
    """A sweep that saves a checkpoint after every epoch, of an experiment `test` or of those that `configs` names.

    `plugins` is a folder of further rules; memory holds `room` members of a population. What it says is in `said`.
    """
    bench.training.loop.CHECKPOINT_SECONDS = bench.training.loop.CHECKPOINT_TIMES = 0
    bench.sweeps.executors.local.CONTEXT = multiprocessing.get_context("fork")
    bench.rules.__path__.append(str(plugins))
    if room:
        bench.sweeps.groups.train_program = partial(scarce, room, bench.sweeps.groups.train_program)
    store = Store(folder)
    options = {"device": "cpu", "population": population, "deadline": math.inf}
    with held_by_workers(folder), (folder / "said").open("a") as said, Workers(2) as workers:
        named = configs if isinstance(configs, dict) else {"test": configs}
        plans = [Plan(name, (), missing(runs, store, [name])) for name, runs in named.items()]
        say = partial(print, file=said)
        run_all(plans, store, "quick", done=lambda *_: None, say=say, workers=workers, **options)


def scarce(room, train_program, configs, *arguments):
    if len(configs) > room:
        raise torch.OutOfMemoryError
    return train_program(configs, *arguments)


def start(*arguments):
    process = FORKS.Process(target=sweep, args=arguments)
    process.start()
    return process


def finish(*arguments):
    process = start(*arguments)
    process.join()
    assert process.exitcode == 0


def wait_for_change(folder, process):
    """Until a file comes or goes in a folder, or the process ends."""
    before = folder.stat().st_mtime_ns
    while folder.stat().st_mtime_ns == before and process.exitcode is None:
        time.sleep(0.001)


@contextmanager
def held_by_workers(folder):
    """A lock that this process and the workers that it forks hold for as long as one of them lives."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "alive").open("a") as alive:
        fcntl.flock(alive, fcntl.LOCK_SH)
        yield


def wait_for_workers(folder):
    """Until each has noticed that its sweep is gone."""
    patience = time.monotonic() + 10
    with (folder / "alive").open("a") as alive:
        while True:
            try:
                return fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                assert time.monotonic() < patience, "a worker outlives its sweep"
                time.sleep(0.01)


def records(folder, configs=CONFIGS):
    """What is recorded, without what the clock, the memory and a commit in the meantime say."""
    found = [Store(folder).find(config, ["test"]) for config in configs]
    aside = ("seconds", "peak_memory_bytes", "source", "seal")
    return [record and {key: value for key, value in record.items() if key not in aside} for record in found]


def written(folder, configs):
    """As `records`, without asking whether they are valid: a rule of a test is installed in its sweep alone."""
    return [json.loads(Store(folder).path("test", config).read_text()) for config in configs]


def test_a_sweep_killed_ten_times_ends_with_the_records_of_an_undisturbed_one(tmp_path):
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    finish(undisturbed, CONFIGS)
    checkpoints = killed / "checkpoints"
    checkpoints.mkdir(parents=True)
    moments, begun = random.Random(0), []
    for _ in range(10):
        process = start(killed, CONFIGS)
        for _ in range(moments.randint(1, 3)):
            wait_for_change(checkpoints, process)
        time.sleep(moments.uniform(0, 0.02))
        assert process.exitcode is None
        process.kill()
        process.join()
        wait_for_workers(killed)
        begun += [*checkpoints.glob("*.pt")]
    assert begun and missing(CONFIGS, Store(killed), ["test"])
    finish(killed, CONFIGS)
    assert all(record["status"] == "ok" for record in records(undisturbed))
    assert records(killed) == records(undisturbed)
    assert len(list(Store(killed).paths())) == len(CONFIGS)
    assert not list(checkpoints.glob("*.pt"))


def test_a_worker_whose_sweep_was_killed_leaves_no_checkpoint_of_a_recorded_run(tmp_path):
    process = FORKS.Process(target=slow_to_record, args=(tmp_path, CONFIGS[:1]))
    process.start()
    path = Store(tmp_path).path("test", CONFIGS[0])
    while not path.exists():
        time.sleep(0.001)
    process.kill()
    process.join()
    wait_for_workers(tmp_path)
    assert not list((tmp_path / "checkpoints").glob("*.pt"))


def slow_to_record(folder, configs):
    """A sweep that waits for half a second after each record that it writes."""
    write = Store.write

    def slow(store, record, path):
        write(store, record, path)
        time.sleep(0.5)

    Store.write = slow
    sweep(folder, configs)


RAISES = """
from bench.errors import UsageError
from bench.rules.bp import Backpropagation

class Raises(Backpropagation):
    def backward(self, signals, feedback):
        raise ValueError("no error goes down")

RULE = Raises
"""
DIES = RAISES.replace(
    'raise ValueError("no error goes down")', "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
)
LEAVES = RAISES.replace('ValueError("no error goes down")', "SystemExit(3)")
UNDECLARED = """
from bench.rules.bp import Backpropagation

class Undeclared(Backpropagation):
    reads_weights = "maybe"

RULE = Undeclared
"""
REFUSES = RAISES.replace('ValueError("no error goes down")', 'UsageError("--rank 3: no such")')


def test_a_run_that_fails_does_not_stop_the_others(tmp_path):
    plugins = {"raises": RAISES, "refuses": REFUSES, "dies": DIES, "leaves": LEAVES, "undeclared": UNDECLARED}
    for name, source in plugins.items():
        (tmp_path / f"{name}.py").write_text(source)
    quick = replace(CONFIG, epochs=1)
    configs = [
        replace(quick, rule="raises"),
        replace(quick, rule="refuses"),
        replace(quick, rule="dies"),
        replace(quick, rule="dies", seed=1),
        replace(quick, rule="leaves"),
        replace(quick, rule="undeclared"),
        replace(quick, lr=1e38),
        quick,
        replace(quick, rule="fa"),
    ]
    finish(tmp_path / "results", configs, tmp_path)
    found = written(tmp_path / "results", configs)
    assert [record["status"] for record in found] == ["failed"] * 6 + ["diverged", "ok", "ok"]
    reasons = ["ValueError: no error goes down", "--rank 3: no such", "its process died", "its process died"]
    assert [record["reason"] for record in found[:4]] == reasons
    assert found[4]["reason"] == "SystemExit: 3" and "'maybe'" in found[5]["reason"]
    assert missing(configs, Store(tmp_path / "results"), ["test"]) == configs[:6]


def test_populations_give_the_records_of_runs_one_by_one(tmp_path):
    """Runs that differ in seed and rank share a program, `dfa` has none; memory that runs out halves it, said once."""
    quick = replace(CONFIG, epochs=2, precision="float64")
    configs = [replace(quick, seed=seed) for seed in range(5)]
    configs += [replace(quick, rule="ldfa", rank=rank, seed=seed) for rank in ("2", "full") for seed in range(2)]
    configs += [replace(quick, rule="dfa", seed=seed) for seed in range(2)]
    for folder, *options in (("one", None, 1), ("many", None, 9), ("scarce", None, 9, 3)):
        finish(tmp_path / folder, configs, *options)
    one, many, scarce = (records(tmp_path / folder, configs) for folder in ("one", "many", "scarce"))
    assert [record["population"] for record in many] == [5] * 5 + [4] * 4 + [1] * 2
    assert [record["population"] for record in scarce] == [3] * 3 + [2] * 2 + [2] * 4 + [1] * 2
    for record, *others in zip(one, many, scarce, strict=True):
        for other in others:
            assert other["final"] == pytest.approx(record["final"], rel=1e-4)
            assert other["first_losses"] == pytest.approx(record["first_losses"], rel=1e-4)
    said = [(tmp_path / folder / "said").read_text().splitlines() for folder in ("one", "many", "scarce")]
    assert said[:2] == [[], []]
    assert sorted(said[2]) == [f"out of memory: {members} runs at a time from here on" for members in (2, 3)]


def before_each_error(source):
    """A rule like `bp` that runs `source` before it sends an error down."""
    sends = f"{source.strip()}\nreturn super().backward(signals, feedback)"
    return RAISES.replace('        raise ValueError("no error goes down")', textwrap.indent(sends, 8 * " "))


MEETS = before_each_error("""
import os, time
from pathlib import Path
own = Path(__file__).with_name(f"here-{os.getpid()}")
own.touch()
until = time.monotonic() + 60
while len(list(own.parent.glob("here-*"))) < 2:
    if time.monotonic() > until:
        raise TimeoutError("alone")
    time.sleep(0.01)
""")
ALONE = before_each_error("""
import time
from pathlib import Path
lock = Path(__file__).with_name("lock")
lock.mkdir()
time.sleep(0.05)
lock.rmdir()
""")


def test_a_free_worker_goes_on_to_the_next_experiment(tmp_path):
    (tmp_path / "meets.py").write_text(MEETS)
    config = replace(CONFIG, rule="meets", epochs=1)
    finish(tmp_path / "results", {"one": [config], "two": [replace(config, seed=1)]}, tmp_path)
    assert [json.loads(path.read_text())["status"] for path in Store(tmp_path / "results").paths()] == ["ok"] * 2


def test_a_run_that_two_experiments_record_is_not_trained_twice_at_once(tmp_path):
    (tmp_path / "alone.py").write_text(ALONE)
    config = replace(CONFIG, rule="alone", epochs=1)
    finish(tmp_path / "results", {"one": [config], "two": [config]}, tmp_path)
    found = [json.loads(path.read_text()) for path in Store(tmp_path / "results").paths()]
    assert [(record["experiment"], record["status"]) for record in found] == [("one", "ok"), ("two", "ok")]


def test_members_of_a_population_that_fails_run_one_by_one(tmp_path):
    plugins = {"raises": RAISES, "refuses": REFUSES, "dies": DIES}
    for name, source in plugins.items():
        (tmp_path / f"{name}.py").write_text(source)
    configs = [replace(CONFIG, epochs=1, rule=rule, seed=seed) for rule in [*plugins, "bp"] for seed in range(2)]
    finish(tmp_path / "results", configs, tmp_path, 9)
    found = written(tmp_path / "results", configs)
    assert [record["status"] for record in found] == ["failed"] * 6 + ["ok"] * 2
    said = sorted((tmp_path / "results/said").read_text().splitlines())
    reasons = ["--rank 3: no such", "ValueError: no error goes down", "its process died"]
    assert said == [f"training together failed, so the runs continue one by one: {reason}" for reason in reasons]


LOSES = RAISES.replace(
    "        raise ValueError",
    """        import os
        from pathlib import Path
        with Path(__file__).with_name("processes").open("a") as file:
            print(os.getpid(), file=file)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
        raise ValueError""",
)


@pytest.mark.parametrize("population", [1, 9])
def test_no_run_follows_a_cuda_error_in_its_process(population, tmp_path):
    """Three runs one by one, or first together."""
    (tmp_path / "loses.py").write_text(LOSES)
    configs = [replace(CONFIG, epochs=1, rule="loses", seed=seed) for seed in range(3)]
    finish(tmp_path / "results", configs, tmp_path, population)
    reasons = [json.loads(path.read_text())["reason"] for path in Store(tmp_path / "results").paths()]
    assert reasons == ["RuntimeError: CUDA error: an illegal memory access was encountered"] * 3
    processes = (tmp_path / "processes").read_text().split()
    assert len(processes) == len(set(processes)) == (3 if population == 1 else 4)


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Runs `CONFIG`, with a checkpoint every epoch; gives the record, and the epochs trained."""
    monkeypatch.setattr(bench.training.loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(bench.training.loop, "CHECKPOINT_TIMES", 0)

    def attempt(last=CONFIG.epochs):
        told = []

        def tell(entry):
            told.append(entry["epoch"])
            if entry["epoch"] > last:
                raise MemoryError("no memory left")

        return bench.sweeps.groups.run(CONFIG, Store(tmp_path), "test", "quick", "cpu", progress=tell), told

    return attempt


def test_a_run_that_failed_goes_on_from_its_checkpoint(attempt, tmp_path):
    record, _ = attempt(last=7)
    assert (record["status"], record["reason"]) == ("failed", "MemoryError: no memory left")
    record, epochs = attempt()
    assert record["status"] == "ok" and epochs == [8, 9, 10]
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-99], lambda content: b"x" + content])
def test_a_broken_checkpoint_is_set_aside_and_the_run_starts_anew(damage, attempt, tmp_path, capsys):
    attempt(last=7)
    checkpoint = Store(tmp_path).checkpoint([CONFIG])
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    record, epochs = attempt()
    assert record["status"] == "ok" and epochs == [*range(1, 11)]
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.with_suffix(".broken").name]
    assert capsys.readouterr().err.startswith(f"warning: checkpoint {checkpoint.name} cannot be used (")


def test_past_the_deadline_runs_pause_and_none_starts(tmp_path):
    configs = [replace(CONFIG, epochs=10_000, seed=seed) for seed in range(2)]
    store, told = Store(tmp_path), []
    deadline = time.monotonic() + 1
    options = {"device": "cpu", "deadline": deadline, "done": lambda *ended: told.append(ended)}
    with Workers(1) as workers:
        run_all([Plan("test", (), configs)], store, "quick", workers=workers, **options)
        ((config, record),) = told
        assert config == configs[0] and record["status"] == "paused" and record["device"]["threads"] == 1
        assert not list(store.paths()) and store.checkpoint([config]).exists()
        run_all([Plan("test", (), configs)], store, "quick", workers=workers, **options)
    assert len(told) == 1


def test_the_time_left_is_said_once_a_run_of_every_waiting_network_has_ended():
    waiting = {"linear": 3, "mlp": 4}
    assert time_left(waiting, {"linear": [9.0], "mlp": []}, 2) == ""
    assert time_left(waiting, {"linear": [9.0, 11.0], "mlp": [1.0]}, 2) == "  17.0 s left"
    assert time_left({"linear": 3, "mlp": 0}, {"linear": [10.0], "mlp": []}, 2) == "  15.0 s left"
