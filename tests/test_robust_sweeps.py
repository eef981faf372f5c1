"""Sweeps on a machine that misbehaves: full disks, workers that die, other sweeps."""

import errno
import fcntl
import math
import multiprocessing
import os
import resource
import shutil
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from forks import FORKS
from test_sweep import CONFIG, DIES, records, written

import bench.commands.plans
import bench.sweeps.executors.local
import bench.training.loop
from bench.cli import main
from bench.config import Config
from bench.errors import CannotWrite
from bench.files import write_atomically
from bench.records.store import Store
from bench.sweeps.executors.local import Workers, run_all
from bench.sweeps.experiments import experiment as find_experiment
from bench.sweeps.groups import run
from bench.sweeps.missing import Plan, missing
from bench.sweeps.sharing import Claims
from bench.training.process import Terminated

QUICK = replace(CONFIG, epochs=1)
TINY = """
title: A short run and a long one
model: mlp
scales:
  quick:
    seeds: 1
    runs:
      - {rule: bp, epochs: 1}
      - {rule: fa, epochs: 1000000}
"""
RUN = [
    "run",
    "--model",
    "mlp",
    "--rule",
    "bp",
    "--scale",
    "quick",
    "--set",
    "epochs=1",
    "--set",
    "model_options.width=8",
]


def is_one_line(err, *words):
    assert err.startswith("error: ") and err.count("\n") == 1 and not [word for word in words if word not in err], err
    return True


def sweep(folder, configs, prepare=lambda: None, done=lambda *_: None, workers=1):
    """Runs what is missing in this process, a fork; exit status 143 after SIGTERM, 2 where something is not written."""
    bench.training.loop.CHECKPOINT_SECONDS = bench.training.loop.CHECKPOINT_TIMES = 0
    bench.sweeps.executors.local.CONTEXT = multiprocessing.get_context("fork")
    prepare()
    store = Store(folder)
    options = {"device": "cpu", "deadline": math.inf, "done": done}
    try:
        with Workers(workers) as processes:
            plan = Plan("test", (), missing(configs, store, ["test"]))
            run_all([plan], store, "quick", workers=processes, **options)
    except Terminated:
        sys.exit(143)
    except CannotWrite as error:
        (folder / "said").write_text(str(error))
        sys.exit(2)


def start(*arguments, **options):
    process = FORKS.Process(target=sweep, args=arguments, kwargs=options)
    process.start()
    return process


def ended(process, within=120):
    process.join(within)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


def wait_for(condition, within=120):
    patience = time.monotonic() + within
    while not condition():
        assert time.monotonic() < patience, "nothing came"
        time.sleep(0.01)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/tiny.yaml").write_text(TINY)
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path / "experiments"))
    monkeypatch.chdir(tmp_path)


def plugins(folder):
    import bench.rules

    bench.rules.__path__.append(str(folder))


# Workers


def kill_workers(config, record):
    """As a result has come and before the next job goes out; returns once the pool has noticed."""
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    wait_for(lambda: "_ExecutorManagerThread" not in {type(thread).__name__ for thread in threading.enumerate()})


def test_a_worker_killed_between_two_jobs_is_replaced(tmp_path):
    configs = [replace(QUICK, seed=seed) for seed in range(3)]
    assert ended(start(tmp_path, configs, done=kill_workers)) == 0
    assert [record["status"] for record in records(tmp_path, configs)] == ["ok"] * 3


# Disks


def fill_disk_after_two():
    """A disk that is full once it holds two records."""

    fsync = os.fsync

    def full(descriptor):
        folder = Path(os.readlink(f"/proc/self/fd/{descriptor}")).parent
        if len(list(folder.glob("*.json"))) >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    os.fsync = full


def test_a_full_disk_ends_a_sweep_and_keeps_what_is_recorded(tmp_path):
    configs = [replace(QUICK, seed=seed) for seed in range(4)]
    assert ended(start(tmp_path, configs, fill_disk_after_two)) == 2
    said = (tmp_path / "said").read_text()
    assert "cannot be written (No space left on device)" in said and "\n" not in said
    found = records(tmp_path, configs)
    assert [record and record["status"] for record in found] == ["ok", "ok", None, None]
    assert not list(tmp_path.rglob("*.tmp"))


def fill_disk_with_checkpoints():
    """A disk that has room for records alone."""
    fsync = os.fsync

    def full(descriptor):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).parent.name == "checkpoints":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    os.fsync = full


def test_a_checkpoint_that_cannot_be_written_is_no_failure_of_its_run(tmp_path):
    configs = [replace(QUICK, epochs=2), QUICK]
    assert ended(start(tmp_path, configs, fill_disk_with_checkpoints)) == 2
    assert "checkpoints" in (tmp_path / "said").read_text() and not list(Store(tmp_path).paths())


def test_a_full_disk_is_one_line_of_the_command(experiment, capsys, monkeypatch):
    def full(*arguments, **options):
        raise CannotWrite("x.json: cannot be written (No space left on device)")

    monkeypatch.setattr("bench.sweeps.executors.local.run_all", full)
    assert main(["sweep", "tiny", "--scale", "quick", "--workers", "1"]) == 2
    assert is_one_line(capsys.readouterr().err, "No space left on device", "the same command resumes the rest")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EROFS, errno.EIO])
def test_a_folder_where_runs_cannot_be_claimed(number, experiment, capsys, monkeypatch):
    def link(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    assert main(["sweep", "tiny", "--scale", "quick", "--workers", "1"]) == 2
    assert is_one_line(capsys.readouterr().err, "results/quick/claims: cannot claim runs", os.strerror(number))


def test_a_sweep_clears_what_killed_writers_left_and_nothing_else(tmp_path):
    """At its start, and at its end what a worker of its own left; a file that is being written stays."""
    left = [tmp_path / "records/test/.a.json.1.tmp", tmp_path / "checkpoints/.b.pt.2.tmp"]
    later, others = tmp_path / "checkpoints/.c.pt.3.tmp", [tmp_path / "records/test/a.json", tmp_path / "b.tmp"]
    for path in [*left, *others]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def write(file):
        with Claims(Store(tmp_path)):
            assert not any(path.exists() for path in left)
            later.touch()
        file.write(b"whole")

    write_atomically(tmp_path / "checkpoints/d.pt", write)
    assert (tmp_path / "checkpoints/d.pt").read_bytes() == b"whole"
    assert not later.exists() and all(path.exists() for path in others)


def test_a_file_cleared_before_its_writer_locked_it_is_opened_anew(tmp_path, monkeypatch):
    calls = count()
    monkeypatch.setattr(fcntl, "flock", lambda *_: clear(tmp_path) if next(calls) == 0 else None)
    write_atomically(tmp_path / "a.json", lambda file: file.write(b"whole"))
    assert (tmp_path / "a.json").read_bytes() == b"whole" and next(calls) > 1


def clear(folder):
    for path in folder.glob(".*.tmp"):
        path.unlink()


@pytest.mark.parametrize("kind", [os.mkdir, os.mkfifo, lambda path: os.symlink(path.name, path)])
def test_what_is_no_file_and_has_the_name_of_a_record_is_named_before_anything_is_trained(
    kind, experiment, tmp_path, capsys, monkeypatch
):
    """A folder, a pipe, a loop of links."""
    assert main(RUN) == 0
    store, found = Store(tmp_path / "results/quick"), capsys.readouterr().out.split()[-1]
    os.remove(found)
    kind(tmp_path / found)
    monkeypatch.setattr("bench.commands.run.run", None)
    assert main(RUN) == 2
    assert is_one_line(capsys.readouterr().err, found, "not a regular file")
    monkeypatch.setattr("bench.sweeps.executors.local.ProcessPoolExecutor.submit", None)
    for config in find_experiment("tiny").configs("quick"):
        store.path("tiny", config).parent.mkdir(exist_ok=True)
        kind(store.path("tiny", config))
    assert main(["sweep", "tiny", "--scale", "quick", "--workers", "1"]) == 2
    warning, error = capsys.readouterr().err.splitlines(True)
    assert warning.startswith("warning: skipped: ") and is_one_line(error, "and 1 more: not a regular file")


def test_tuning_names_the_trials_it_leaves_out(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damaged = tmp_path / "results/quick/records/tune-mlp/bp-0.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    monkeypatch.setattr("bench.sweeps.executors.local.ProcessPoolExecutor.submit", None)
    with pytest.raises(TypeError):
        main(["tune", "--model", "mlp", "--scale", "quick", "--rule", "bp", "--workers", "1"])
    assert is_one_line("error: " + capsys.readouterr().err, "results/quick/records/tune-mlp/bp-0.json: is truncated")


@pytest.fixture
def small_files():
    """No file may grow above 16 kB: a record fits, weights do not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_weights_that_do_not_fit_leave_the_record(tmp_path, capsys, monkeypatch, small_files):
    monkeypatch.chdir(tmp_path)
    command = [*RUN, "--set", "model_options.width=64", "--save-weights", "w.pt"]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert is_one_line(
        err.splitlines(True)[-1], "--save-weights", "w.pt", "File too large", "the run itself is recorded"
    )
    assert len(list(Store(tmp_path / "results/quick").paths())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device"])
def test_weights_go_to_regular_files_alone(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "w.pt"
    {"pipe": os.mkfifo, "folder": os.mkdir, "link to a device": lambda p: os.symlink("/dev/null", p)}[kind](target)
    before = os.lstat(target)
    assert main([*RUN, "--save-weights", "w.pt"]) == 2
    assert is_one_line(capsys.readouterr().err, "--save-weights w.pt")
    assert os.lstat(target)[:3] == before[:3] and os.listdir(tmp_path) == ["w.pt"]
    with pytest.raises(CannotWrite, match="not a regular file"):
        write_atomically(target, lambda file: file.write(b"x"))
    assert os.lstat(target)[:3] == before[:3]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(there, tmp_path):
    (tmp_path / "far").mkdir()
    if there:
        (tmp_path / "far/w.pt").write_bytes(b"old")
    (tmp_path / "w.pt").symlink_to("far/w.pt")
    write_atomically(tmp_path / "w.pt", lambda file: file.write(b"new"))
    assert (tmp_path / "w.pt").is_symlink() and (tmp_path / "far/w.pt").read_bytes() == b"new"


# Two sweeps


def test_what_another_sweep_recorded_meanwhile_stays_as_it_is(tmp_path, capsys, monkeypatch):
    text = TINY.replace("1000000", "1")
    for folder in ("experiments", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "experiments/tiny.yaml").write_text(text)
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path / "experiments"))
    monkeypatch.chdir(tmp_path)
    command = ["sweep", "tiny", "--scale", "quick", "--workers", "1", "--results"]
    assert main([*command, "other"]) == 0
    before = {path.name: path.read_bytes() for path in Store(tmp_path / "other/quick").paths()}
    assert len(before) == 2

    def meanwhile(configs):
        """The other sweep ends while this one waits."""
        shutil.copytree("other", "results", dirs_exist_ok=True)

    monkeypatch.setattr(bench.commands.plans, "check", meanwhile)
    capsys.readouterr()
    assert main([*command, "results"]) == 0
    assert {path.name: path.read_bytes() for path in Store(tmp_path / "results/quick").paths()} == before
    assert "2/2" in capsys.readouterr().out


def test_a_worker_that_dies_in_its_run_is_still_named(tmp_path):
    """What SIGTERM excuses, nothing else does."""
    (tmp_path / "dies.py").write_text(DIES)

    config = Config(**(vars(QUICK) | {"rule": "dies"}))
    assert ended(start(tmp_path / "out", [config], partial(plugins, tmp_path))) == 0
    assert written(tmp_path / "out", [config])[0]["reason"] == "its process died"


def test_a_failure_replaces_no_result(tmp_path, monkeypatch):
    """As when a run is repeated with `--force` and memory runs out."""
    store = Store(tmp_path)
    assert run(CONFIG, store, "run", "quick", "cpu")["status"] == "ok"
    kept = store.path("run", CONFIG).read_bytes()

    def fails(*_, **__):
        raise RuntimeError("no memory")

    monkeypatch.setattr("bench.training.loop.train_together", fails)
    assert run(CONFIG, store, "run", "quick", "cpu")["status"] == "failed"
    assert store.path("run", CONFIG).read_bytes() == kept
    other = replace(CONFIG, seed=9)
    assert run(other, store, "run", "quick", "cpu")["reason"] == "RuntimeError: no memory"
    assert store.find(other, ["run"])["status"] == "failed"
