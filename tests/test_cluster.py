"""Sweeps as jobs: of a real Slurm of one node where it is installed, and of submitit's other executors elsewhere."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc.repo import Repo
from forks import FORKS
from one_node_slurm import PROGRAMS, one_node_slurm
from test_robust_sweeps import is_one_line, wait_for
from test_sweep import CONFIG

import bench.registry
import bench.rules
from bench.cli import main
from bench.errors import UsageError
from bench.records.store import Store, failed_record
from bench.sweeps.executors import jobs, local, slurm
from bench.sweeps.executors.cluster import Cluster, packed, read_cluster
from replication import full

pytest.importorskip("submitit")
needs_slurm = pytest.mark.skipif(not all(PROGRAMS.values()), reason="needs slurmctld, slurmd and munged")

GATED = """
import os
import time
from pathlib import Path
from bench.rules.bp import Backpropagation
from bench.training.process import asked_to_pause

class Gated(Backpropagation):
    def backward(self, signals, feedback):
        while Path("gate").exists() and not asked_to_pause():
            Path(f"gate-{os.getpid()}").touch()
            time.sleep(0.05)
        return super().backward(signals, feedback)

RULE = Gated
"""
TINY = """
title: Short runs
model: mlp
scales:
  quick:
    seeds: 3
    runs: [{rule: gated, epochs: 3, model_options: {width: 8}}]
"""
SWEEP = ["sweep", "tiny", "--scale", "quick", "--workers", "1"]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment of three runs that do not end while a file `gate` is there; jobs know its rule too."""
    for name, text in {"experiments/tiny.yaml": TINY, "rules/gated.py": GATED}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    (tmp_path / "sitecustomize.py").write_text(f"import bench.rules; bench.rules.__path__.append('{tmp_path}/rules')")
    monkeypatch.setattr(bench.rules, "__path__", [*bench.rules.__path__, str(tmp_path / "rules")])
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path / "experiments"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(bench.rules.__file__).parents[2])]))
    monkeypatch.setattr(slurm, "LOOK", 0.1)
    monkeypatch.setattr(slurm, "ASK", 0.5)
    monkeypatch.chdir(tmp_path)
    bench.registry._modules.cache_clear()
    yield
    bench.registry._modules.cache_clear()


def files(folder):
    """What is recorded, without what the clock, the memory and a commit in the meantime say."""
    aside = ("seconds", "peak_memory_bytes", "source", "seal")
    paths = Store(Path(folder) / "quick").paths()
    return {p.name: {k: v for k, v in json.loads(p.read_text()).items() if k not in aside} for p in paths}


def forked(arguments):
    """`bench` in a fork of the server."""
    bench.rules.__path__.append(str(Path("rules").resolve()))
    local.CONTEXT = multiprocessing.get_context("fork")
    sys.exit(main(arguments))


def start(*arguments):
    process = FORKS.Process(target=forked, args=(arguments,))
    process.start()
    return process


def trained_here():
    """The same runs by a local sweep."""
    process = start(*SWEEP, "--results", "here")
    process.join()
    assert process.exitcode == 0
    return files("here")


@pytest.fixture(scope="module")
def daemons(tmp_path_factory):
    with one_node_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def one_node(daemons, experiment, tmp_path, monkeypatch):
    (tmp_path / "slurm.yaml").write_text("partition: all\ntime: 5\n")
    for name, value in daemons.environment.items():
        monkeypatch.setenv(name, value)
    return daemons


@pytest.mark.slow
@needs_slurm
def test_what_slurm_kills_resumes_to_the_records_of_a_local_sweep(one_node, tmp_path, capsys):
    """The submitting process, the controller and each of three jobs are killed in turn, each job in another way."""
    gate, claims = tmp_path / "gate", tmp_path / "results/quick/claims"
    gate.touch()
    submitting = start(*SWEEP, "--cluster", "slurm.yaml")

    def queue():
        """Of each job: its number, its name in the array, its state."""
        lines = one_node("squeue", "--noheader", "--array", "--format=%A %F_%K %T").splitlines()
        return sorted(line.split() for line in lines)

    def processes():
        found = [json.loads(path.read_text()) for path in claims.glob("*") if path.name[0] != "."]
        return {holder["job"]: holder["pid"] for holder in found}

    wait_for(lambda: len(list(tmp_path.glob("gate-*"))) == 3)
    submitting.kill()
    one_node.end("slurmctld")
    one_node.start("slurmctld", "-D")
    numbers, jobs, _ = zip(*queue(), strict=True)
    assert sorted(processes()) == list(numbers)

    os.kill(processes()[numbers[2]], signal.SIGKILL)
    one_node("scontrol", "requeue", jobs[0])
    one_node("scancel", "--signal=USR2", jobs[1])
    wait_for(lambda: [state for _, _, state in queue()] == ["PENDING"] * 2)
    assert len(list(tmp_path.glob("results/quick/checkpoints/*.pt"))) == 2
    for job in jobs[:2]:
        one_node("scontrol", "update", f"jobid={job}", "starttime=now")
    gate.unlink()

    assert main([*SWEEP, "--cluster", "slurm.yaml"]) == 0
    said = capsys.readouterr().out
    assert "joined: 2 runs are already in jobs" in said and "submitted: 1 runs in 1 jobs" in said
    assert len(files("results")) == 3 and files("results") == trained_here()
    assert not list(tmp_path.glob("results/quick/checkpoints/*.pt"))


@pytest.mark.slow
@needs_slurm
def test_slurm_refuses_a_partition_that_it_lacks(one_node, tmp_path, capsys):
    (tmp_path / "slurm.yaml").write_text("partition: gpus\ntime: 5\n")
    assert main([*SWEEP, "--cluster", "slurm.yaml"]) == 2
    assert is_one_line(capsys.readouterr().err, "slurm.yaml: ", "nvalid partition name specified")
    assert not list(tmp_path.glob("results/quick/jobs/*"))


# Elsewhere


@pytest.fixture
def here(experiment, tmp_path):
    """Writes a cluster file for jobs on this machine."""

    def write(executor="local", **keys):
        lines = [f"{key}: {value}\n" for key, value in ({"executor": executor, "time": 5} | keys).items()]
        (tmp_path / "here.yaml").write_text("".join(lines))
        return ["--cluster", "here.yaml"]

    return write


@pytest.mark.slow
def test_submitits_local_executor_gives_the_same_records(here, capsys):
    assert main([*SWEEP, *here("local")]) == 0
    assert "submitted: 3 runs in 3 jobs" in capsys.readouterr().out
    assert len(files("results")) == 3 and files("results") == trained_here()


def test_submitits_debug_executor_gives_the_same_records(here):
    """Its jobs are in the process that submits, so that this has to be a fresh one, whose workers know the rule."""
    process = start(*SWEEP, *here("debug"))
    process.join()
    assert process.exitcode == 0
    assert len(files("results")) == 3 and files("results") == trained_here()


@pytest.mark.slow
def test_the_jobs_of_all_experiments_are_submitted_at_once(here, tmp_path, capsys):
    (tmp_path / "experiments/small.yaml").write_text(
        TINY.replace("seeds: 3", "seeds: 1").replace("epochs: 3", "epochs: 2")
    )
    assert main([*SWEEP, "small", *here("local")]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("submitted", "1/4", "4/4"))]
    assert [line.split(":")[0].split()[0] for line in said] == ["submitted", "submitted", "1/4", "4/4"]
    assert len(files("results")) == 4


@pytest.mark.slow
def test_a_job_that_dies_at_once_is_one_line_with_the_last_of_its_log(here, capsys):
    assert main([*SWEEP, "--device", "cuda", *here()]) == 2
    error = capsys.readouterr().err
    assert is_one_line(error, "a job ended before", "error: --device cuda: the job has no GPU", "_0_log.err", "3 runs")
    assert not files("results")


def paused(folder, configs, number):
    """A job that hears a signal in its run; exit status 7 where the signal then comes to the handler of submitit."""
    bench.rules.__path__.append(str(folder / "rules"))
    os.chdir(folder)
    local.CONTEXT = multiprocessing.get_context("fork")
    signal.signal(signal.SIGUSR2, lambda *_: os._exit(7))

    def send():
        wait_for(lambda: list(folder.glob("gate-*")))
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    jobs.Job(tuple(configs), str(folder / "out"), "tiny", (), "quick", "cpu", 1, 1)()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGUSR2, 7), (signal.SIGTERM, 1)])
def test_a_job_that_is_to_end_pauses_and_at_its_limit_asks_to_be_requeued(number, status, experiment, tmp_path):
    (tmp_path / "gate").touch()
    config = replace(CONFIG, rule="gated", epochs=3)
    process = FORKS.Process(target=paused, args=(tmp_path, [config], number))
    process.start()
    process.join()
    assert process.exitcode == status
    assert Store(tmp_path / "out").checkpoint([config]).exists()


PIPELINE = """
stages:
  report: {cmd: python -m replication, deps: [results/gpu/records/second]}
  second:
    cmd: python -m bench sweep second --scale gpu
    deps: [results/gpu/records/first]
    outs: [results/gpu/records/second: {cache: false, persist: true}]
  first:
    cmd: python -m bench sweep first --scale gpu
    outs: [results/gpu/records/first: {cache: false, persist: true}]
"""
STAGE = """
title: A short run
model: mlp
scales:
  gpu:
    seeds: 1
    datasets: [digits]
    runs: [{rule: %s, epochs: 1, model_options: {width: 8}}]
"""


@pytest.mark.slow
def test_the_pipeline_runs_by_jobs_and_is_recorded_in_dvc(here, tmp_path, capfd, monkeypatch):
    for name, rule in {"first": "bp", "second": "fa"}.items():
        (tmp_path / f"experiments/{name}.yaml").write_text(STAGE % rule)
    root = Path(bench.rules.__file__).parents[2]
    shutil.copytree(root / ".dvc", tmp_path / ".dvc", ignore=lambda *_: ["cache", "tmp"])
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    monkeypatch.setattr(full, "FOLDER", Path("results"))
    monkeypatch.setattr(full.subprocess, "call", lambda command: 0 if command[-1] == "replication" else 9)
    _, cluster_file = here()
    assert full.replicate_by_jobs(Path(cluster_file)) == 0
    said = capfd.readouterr().out
    assert said.index("first: ended") < said.index("second: begun") < said.index("first: recorded in DVC")
    with Repo() as repo:
        assert repo.status(["first", "second"]) == {}
    assert {path.parent.name for path in Store(Path("results/gpu")).paths()} == {"first", "second"}


# Cluster files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", ["expected keys"]),
        ("time: 5\npartitoin: all", ["unknown key 'partitoin'", "did you mean 'partition'?"]),
        ("time: 5\nnodes: 2", ["unknown key 'nodes'"]),
        ("time: 5\nexecutor: pbs", ["unknown executor 'pbs'", "slurm"]),
        ("executor: local", ["key 'time' is missing"]),
        ("executor: local\ntime: 4h", ["time", "'4h'", "minutes"]),
        ("executor: local\ntime: 5\npack: 6", ["pack: 6 is above time: 5"]),
        ("executor: local\ntime: 5\narray_parallelism: 0", ["array_parallelism: 0", "a whole number from 1"]),
        ("executor: local\ntime: 5\ncpus_per_task: 1.5", ["cpus_per_task: 1.5", "a whole number from 1"]),
    ],
)
def test_a_wrong_cluster_file_is_one_line(text, words, experiment, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(text)
    assert main([*SWEEP, "--cluster", "c.yaml"]) == 2
    assert is_one_line(capsys.readouterr().err, "c.yaml", *words) and not (tmp_path / "results").exists()


def test_what_does_not_go_with_jobs_is_one_line(here, capsys, monkeypatch):
    assert main([*SWEEP, "--submit-only"]) == 2
    assert is_one_line(capsys.readouterr().err, "--submit-only: requires --cluster")
    assert main([*SWEEP, *here(), "--budget", "60"]) == 2
    assert is_one_line(capsys.readouterr().err, "--budget 60: cannot be used with --cluster")
    Path("results").write_text("no folder")
    assert main([*SWEEP, *here()]) == 2
    assert is_one_line(capsys.readouterr().err, "--results: results/quick cannot be written")
    monkeypatch.setenv("PATH", "")
    assert main([*SWEEP, *here("slurm")]) == 2
    assert is_one_line(capsys.readouterr().err, "here.yaml: sbatch not found")


def cluster(**keys):
    return Cluster(Path("c.yaml"), **({"executor": "local", "time": 10, "pack": 2, "parameters": {}} | keys))


def test_short_runs_are_packed_to_the_stated_time():
    configs = [replace(CONFIG, seed=seed) for seed in range(6)]
    seconds = {config.digest: 50.0 for config in configs}

    def sizes(workers=1, population=1, **keys):
        return [[c.seed for c in job] for job in packed(configs, population, cluster(**keys), seconds, workers)]

    assert sizes() == [[0, 1], [2, 3], [4, 5]]
    assert sizes(workers=2) == [[0, 1, 2, 3], [4, 5]]
    assert sizes(population=3, pack=5) == [[0, 1, 2, 3, 4, 5]]
    assert sizes(population=None) == [[0, 1], [2, 3], [4, 5]]
    seconds[configs[1].digest] = 130.0
    assert sizes() == [[0], [1], [2, 3], [4, 5]]
    del seconds[configs[3].digest]
    assert sizes() == [[0], [1], [2], [3], [4, 5]]
    with pytest.raises(UsageError, match=r"^c.yaml: time: 2 minutes are too short for one run; expected: 3 or more$"):
        sizes(time=2)


def test_the_keys_of_submitit_reach_it(tmp_path):
    (tmp_path / "c.yaml").write_text("executor: local\ntime: 7\ngpus_per_node: 0\nsignal_delay_s: 9\n")
    executor = read_cluster(tmp_path / "c.yaml").of_submitit(tmp_path / "jobs", "name", 3)
    assert executor.parameters == {"timeout_min": 7, "gpus_per_node": 0, "signal_delay_s": 9}


def test_a_run_whose_failed_record_is_removed_is_waited_for(tmp_path):
    first, second = (failed_record(CONFIG, "tiny", "quick", "cpu", reason) for reason in ("first", "second"))
    store, reasons = Store(tmp_path), []

    def submitted(arrays):
        store.write(second, store.path("tiny", CONFIG))

    queue = SimpleNamespace(submitted=submitted)
    waiting, before = {CONFIG.digest: CONFIG}, {CONFIG.digest: first}
    slurm._watch(waiting, before, store, ["tiny"], queue, [], lambda _, record: reasons.append(record["reason"]), print)
    assert reasons == ["second"]


@pytest.mark.parametrize("content", ["{", "{}", "[]", b"\xff".decode("latin1")])
def test_a_damaged_list_of_jobs_is_named(content, tmp_path):
    path = tmp_path / "jobs/sweep-1/array.json"
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="latin1")
    with pytest.raises(UsageError, match=r"array.json: damaged .* if none of its jobs is left in the queue, delete"):
        jobs.arrays_of(Store(tmp_path))
