"""Commands and sweeps that are told to stop: Ctrl-C, and the SIGTERM of a batch system."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from forks import FORKS
from test_robust_sweeps import QUICK, RUN, TINY, ended, plugins, start, wait_for
from test_sweep import CONFIG, RAISES

import bench.sweeps.executors.local
import bench.training.loop
from bench.cli import main
from bench.records.store import Store
from bench.sweeps.groups import run

LONG = replace(CONFIG, epochs=1_000_000)


def test_sigterm_pauses_and_the_rest_resumes(tmp_path):
    configs = [replace(LONG, seed=seed) for seed in range(3)]
    process = start(tmp_path, configs, workers=2)
    wait_for(lambda: len(list(tmp_path.glob("checkpoints/*.pt"))) == 2)
    process.terminate()
    assert ended(process) == 143
    assert not list(Store(tmp_path).paths())
    kept = [Store(tmp_path).checkpoint([config]) for config in configs]
    assert [path.exists() for path in kept] == [True, True, False]
    for path in kept[:2]:
        outcome = bench.training.loop.train(
            LONG if path == kept[0] else configs[1], checkpoint=path, deadline=time.monotonic()
        )
        assert outcome.status == "paused" and outcome.history[0]["epoch"] == 1 and outcome.history[-1]["epoch"] > 1


SLEEPS = RAISES.replace(
    'raise ValueError("no error goes down")', "import time; open(__file__ + '.asleep', 'w'); time.sleep(3600)"
)


@contextmanager
def stuck(tmp_path):
    """A sweep whose run never ends an epoch."""
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    process = start(tmp_path / "out", [replace(QUICK, rule="sleeps"), QUICK], partial(plugins, tmp_path))
    wait_for((tmp_path / "sleeps.py.asleep").exists)
    yield process
    process.kill()


def test_a_second_sigterm_ends_at_once(tmp_path):
    with stuck(tmp_path) as process:
        process.terminate()
        process.join(1)
        assert process.exitcode is None
        process.terminate()
        assert ended(process, within=10) == 143


# Commands. What a script starts in the background ignores an interrupt, and passes that on: here it is heard again.


def as_typed(arguments):
    """A process of its own, whose workers are spawned."""
    with open("out", "w") as out, open("err", "w") as err:
        heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "start_new_session": True}
        process = subprocess.Popen([sys.executable, "-m", "bench", *arguments], stdout=out, stderr=err, **heard)
    return process.pid, partial(process.wait, timeout=120)


def in_a_fork(arguments):
    """The same in a fork, whose workers are forks."""
    process = FORKS.Process(target=forked, args=(arguments,))
    process.start()
    return process.pid, partial(ended, process)


def forked(arguments):
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), stream)
    bench.sweeps.executors.local.CONTEXT = multiprocessing.get_context("fork")
    sys.exit(main(arguments))


@pytest.fixture(params=[in_a_fork, pytest.param(as_typed, marks=pytest.mark.slow)])
def stop(request, tmp_path, monkeypatch):
    """Sends a signal to a sweep, `alone` or with its workers, as its second run trains: exit status, output, errors."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def stop(number, alone=False):
        pid, wait = request.param(["sweep", "tiny", "--scale", "quick", "--workers", "1"])
        out, err = tmp_path / "out", tmp_path / "err"
        try:
            wait_for(lambda: out.exists() and "\n1/2" in out.read_text())
            time.sleep(1)  # the second run, which would take hours, has begun
            (os.kill if alone else os.killpg)(pid, number)
            return wait(), out.read_text(), err.read_text()
        except BaseException:
            os.killpg(pid, signal.SIGKILL)
            raise

    return stop


@pytest.mark.parametrize("alone", [False, True], ids=["all", "parent"])
def test_sigterm_to_a_command_is_one_line_and_143(alone, stop, tmp_path):
    """A batch system sends it to the sweep and its workers, `kill` to the sweep alone."""
    status, out, err = stop(signal.SIGTERM, alone)
    assert status == 143
    assert err == "terminated; 1 runs recorded; the same command resumes the rest\n" and "paused" in out
    assert len(list(Store(tmp_path / "results/quick").paths())) == 1
    assert len(list(tmp_path.glob("results/quick/checkpoints/*.pt"))) == 1


def test_ctrl_c_ends_a_sweep_with_one_line_and_the_rest_resumes(stop, tmp_path):
    status, _, err = stop(signal.SIGINT)
    assert status == 130
    assert err == "interrupted; 1 runs recorded; the same command resumes the rest\n"
    assert len(list(Store(tmp_path / "results/quick").paths())) == 1


def test_sigterm_pauses_a_single_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def terminated(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return run(*arguments, **options)

    monkeypatch.setattr("bench.commands.run.run", terminated)
    command = [*RUN, "--set", "epochs=9"]
    assert main(command) == 143
    assert capsys.readouterr().err.endswith("terminated; 0 runs recorded; the same command resumes the rest\n")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(command) == 0
    err = capsys.readouterr().err
    assert "epoch 9/9" in err and "epoch 1/9" not in err
