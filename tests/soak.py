"""Soak test: sweeps whose processes are killed at random moments end with the records of an undisturbed sweep.

`make soak`, or `python tests/soak.py --kills 50`. Nine of ten sweeps are the command `bench sweep` in a fork of a
process that has imported everything; their workers are forks as well and save a checkpoint after each epoch. The tenth
is the command as it is typed. Two experiments share a run. A kill hits a sweep, a worker of it, both at once (SIGKILL),
or asks the sweep to pause (SIGTERM). Once all runs are recorded they are compared with those of an undisturbed sweep,
and killed anew from the start, until there were as many kills as asked. With `--folder` the count is kept there: the
same command resumes.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from forks import FORKS
from test_sweep import held_by_workers, wait_for_workers

import bench.sweeps.executors.local
import bench.training.loop
from bench.cli import main
from bench.config import Config
from bench.records.store import Record, Store
from bench.sweeps.experiments import experiment
from bench.sweeps.missing import is_final

TINY = """
title: Tiny runs
model: mlp
scales:
  quick:
    seeds: 2
    runs:
      - {rule: [bp, kp], epochs: 10, model_options: {width: 16}}
      - {rule: ldfa, rank: ["3", "B1=2"], epochs: 10, model_options: {width: 16}}
"""
ALSO = """
title: A run of the other experiment, and one of its own
model: mlp
scales:
  quick:
    seeds: 2
    runs:
      - {rule: kp, epochs: 10, model_options: {width: 16}}
      - {rule: ldfa-direct, rank: "3", epochs: 10, model_options: {width: 16}}
"""
EXPERIMENTS = {"tiny": TINY, "also": ALSO}
TYPED = 10
"""Of so many sweeps one is a command as it is typed."""
LATEST = {"fork": 2.5, "typed": 15.0}
"""Seconds of CPU time that a sweep and its workers have until a kill, at most; so a round takes some ten kills."""
TICKS = os.sysconf("SC_CLK_TCK")
ENDS = {
    "sweep": {-signal.SIGKILL},
    "both": {-signal.SIGKILL},
    "worker": {1},
    "pause": {143, -signal.SIGTERM},
}
"""Exit status of a sweep after each kind of kill, beside 0: killed, a run failed, paused or ended before it began."""
ASIDE = ("seconds", "peak_memory_bytes", "source", "seal")
"""Of a record, what the clock, the memory and a commit in the meantime say."""


def arguments(folder: Path) -> list[str]:
    return ["sweep", *EXPERIMENTS, "--scale", "quick", "--workers", "2", "--results", str(folder)]


def fork(folder: Path) -> None:
    """The command in this process, a fork: its workers are forks, and save a checkpoint after each epoch."""
    bench.training.loop.CHECKPOINT_SECONDS = bench.training.loop.CHECKPOINT_TIMES = 0
    bench.sweeps.executors.local.CONTEXT = multiprocessing.get_context("fork")
    sys.stdout = sys.stderr = (folder / "said").open("a", buffering=1)
    with held_by_workers(folder / "quick"):
        sys.exit(main(arguments(folder)))


class Victim:
    """A sweep in a process of its own, forked or as typed."""

    def __init__(self, folder: Path, kind: str) -> None:
        (folder / "quick").mkdir(parents=True, exist_ok=True)
        if kind == "fork":
            self.process = FORKS.Process(target=fork, args=(folder,))
            self.process.start()
        else:
            said = (folder / "said").open("a")
            command = [sys.executable, "-m", "bench", *arguments(folder)]
            self.process = subprocess.Popen(command, stdout=said, stderr=said)

    def wait(self, seconds: float) -> int | None:
        """The exit status; None where it goes on after so many seconds of CPU time."""
        until = self._cpu_seconds() + seconds
        while (status := self._status()) is None and self._cpu_seconds() < until:
            time.sleep(0.005)
        return status

    def _status(self) -> int | None:
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def _cpu_seconds(self) -> float:
        """Of the sweep, its workers and what it has waited for."""
        ticks = 0
        for pid in (self.process.pid, *self._children()):
            with suppress(OSError):
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
        return ticks / TICKS

    def kill(self, what: str, moments: random.Random) -> None:
        """`what` is sweep, worker, both, or pause."""
        pids = self._children()
        if what == "worker":
            pids = [moments.choice(pids)] if pids else []
        elif what in ("sweep", "pause"):
            pids = [self.process.pid]
        else:
            pids = [self.process.pid, *pids]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGTERM if what == "pause" else signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _children(self) -> list[int]:
        pid = self.process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []


def undisturbed(folder: Path) -> list[Record | None]:
    """The records of a sweep that nobody kills."""
    shutil.rmtree(folder, ignore_errors=True)
    if status := Victim(folder, "fork").wait(math.inf):
        sys.exit(f"the undisturbed sweep ended with exit status {status}: see {folder / 'said'}")
    return records(folder)


def disturb(folder: Path, kind: str, kills: int, moments: random.Random) -> Counter[str]:
    """Runs one sweep and kills at random moments, at most `kills` times, until it has ended; what was killed."""
    victim, killed = Victim(folder / "disturbed", kind), Counter()
    while True:
        last = killed.total() == kills or killed["pause"]
        status = victim.wait(math.inf if last else moments.uniform(0, LATEST[kind]))
        if status is not None:
            break
        what = moments.choice(["sweep", "worker", "both", "pause"])
        victim.kill(what, moments)
        killed[what] += 1
    if status not in {0}.union(*(ENDS[what] for what in killed)):
        sys.exit(f"a sweep ended with exit status {status}, after {dict(killed)}: see {folder / 'disturbed/said'}")
    if kind == "fork":
        wait_for_workers(folder / "disturbed/quick")
    return killed


def records(folder: Path) -> list[Record | None]:
    found = [Store(folder / "quick").find(config, [name]) for name, config in configs()]
    return [record and {key: value for key, value in record.items() if key not in ASIDE} for record in found]


def configs() -> list[tuple[str, Config]]:
    """The runs of the sweep, each with its experiment."""
    return [(name, config) for name in EXPERIMENTS for config in experiment(name).configs("quick")]


def soak(folder: Path, kills: int, seed: int) -> None:
    """Kills so many times. Exits with status 1 where a record differs, or anything is left that should not be."""
    for name, content in EXPERIMENTS.items():
        (folder / f"{name}.yaml").write_text(content)
    os.environ["BENCH_EXPERIMENTS"] = str(folder)
    done, disturbed = folder / "killed.json", folder / "disturbed"
    killed = Counter(json.loads(done.read_text())) if done.exists() else Counter()
    expected, started, rounds = undisturbed(folder / "undisturbed"), time.monotonic(), 0
    print(f"undisturbed: {Counter(record['status'] for record in expected)}", flush=True)
    while killed.total() < kills:
        while not all(map(is_final, records(disturbed))):
            moments = random.Random(f"{seed} {killed.total()}")
            kind = "typed" if moments.randrange(TYPED) == 0 else "fork"
            found = disturb(folder, kind, kills - killed.total(), moments)
            killed += Counter({f"{what} ({kind})": number for what, number in found.items()})
            done.write_text(json.dumps(killed))
        if broken := [*disturbed.glob("*/checkpoints/*.broken"), *disturbed.rglob("*.tmp")]:
            sys.exit(f"left over: {broken}")
        pairs = zip(configs(), expected, records(disturbed), strict=True)
        if wrong := [f"{name} {config.slug}" for (name, config), record, other in pairs if record != other]:
            sys.exit(f"records that differ after {dict(killed)}: {wrong}")
        rounds += 1
        took = time.monotonic() - started
        print(
            f"round {rounds}: {len(expected)} records as undisturbed; killed: {dict(killed)}; {took:.0f} s", flush=True
        )
        shutil.rmtree(disturbed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        soak(options.folder, options.kills, options.seed)
    else:
        with TemporaryDirectory() as folder:
            soak(Path(folder), options.kills, options.seed)
