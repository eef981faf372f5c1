"""Soak test: sweeps whose processes are killed at random moments end with the records of an undisturbed sweep.

`make soak`, or `python tests/soak.py --kills 50`. The runs are those of `mlp-direct` at scale quick, a checkpoint
after each epoch. A kill hits a sweep, a worker of it, both at once (SIGKILL), or asks a sweep to pause (SIGTERM). Once
all runs are recorded they are compared, and killed anew from the start, until there were as many kills as asked.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import test_sweep
from test_sweep import FORKS, records, wait_for_workers

from bench.records.store import Store
from bench.sweeps.experiments import experiment
from bench.sweeps.run import missing
from bench.training.process import Terminated

CONFIGS = experiment("mlp-direct").configs("quick")
LONGEST = 1.5
"""Seconds between two kills, at most."""
ENDS = (0, 143, -signal.SIGKILL, -signal.SIGTERM)
"""Exit status of a sweep: ended, paused, killed, or asked to pause before it began."""


def sweep(folder: Path) -> None:
    """Runs what is missing, on two workers."""
    try:
        test_sweep.sweep(folder, CONFIGS)
    except Terminated:
        sys.exit(143)


def workers(process: ForkServerProcess) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except OSError:
        return []


def kill(process: ForkServerProcess, what: str, moments: random.Random) -> None:
    """`what` is sweep, worker, both, or pause."""
    pids = workers(process)
    if what == "worker":
        pids = [moments.choice(pids)] if pids else []
    elif what in ("sweep", "pause"):
        pids = [process.pid]
    else:
        pids = [process.pid, *pids]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGTERM if what == "pause" else signal.SIGKILL)
        except ProcessLookupError:
            continue


def disturb(folder: Path, kills: int, moments: random.Random) -> Counter[str]:
    """Runs one sweep and kills at random moments, at most `kills` times, until it has ended; what was killed."""
    process, killed = FORKS.Process(target=sweep, args=(folder,)), Counter()
    process.start()
    while process.exitcode is None:
        process.join(moments.uniform(0, LONGEST) if killed.total() < kills else None)
        if process.exitcode is None and not killed["pause"]:
            what = moments.choice(["sweep", "worker", "both", "pause"])
            kill(process, what, moments)
            killed[what] += 1
    if process.exitcode not in ENDS:
        sys.exit(f"a sweep ended with exit status {process.exitcode}, after {dict(killed)}")
    wait_for_workers(folder)
    return killed


def soak(folder: Path, kills: int, seed: int) -> None:
    """Kills so many times. Exits with status 1 where a record differs, or a checkpoint was set aside."""
    started, moments, killed = time.monotonic(), random.Random(seed), Counter()
    disturb(folder / "undisturbed", 0, moments)
    expected = records(folder / "undisturbed", CONFIGS)
    print(f"undisturbed: {Counter(record['status'] for record in expected)}", flush=True)
    while killed.total() < kills:
        disturbed = folder / "disturbed"
        while missing(CONFIGS, Store(disturbed), ["test"]):
            killed += disturb(disturbed, kills - killed.total(), moments)
        if broken := list(disturbed.glob("checkpoints/*.broken")):
            sys.exit(f"checkpoints set aside: {broken}")
        pairs = zip(CONFIGS, expected, records(disturbed, CONFIGS), strict=True)
        if wrong := [config.slug for config, record, other in pairs if record != other]:
            sys.exit(f"records that differ after {dict(killed)}: {wrong}")
        took = time.monotonic() - started
        print(f"{len(CONFIGS)} records as undisturbed after {dict(killed)}, {took:.0f} s", flush=True)
        shutil.rmtree(disturbed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        soak(Path(folder), options.kills, options.seed)
