"""Claims: several sweeps share a results folder, train each run once, and take over what the dead left."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
from forks import FORKS
from test_robust_sweeps import QUICK
from test_sweep import CONFIG, records, start, sweep

from bench.records.store import Store
from bench.sweeps import sharing as module
from bench.sweeps.sharing import STALE, Claims, this_process

CONFIGS = [replace(CONFIG, rule=rule, seed=seed) for rule in ("bp", "fa") for seed in range(3)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def claim_of(store, holder, age=0.0):
    """A claim of `QUICK` that `holder` left, last renewed `age` seconds ago."""
    (store.folder / "claims").mkdir(exist_ok=True)
    path = store.folder / "claims" / store.checkpoint([QUICK]).stem
    path.write_text(json.dumps(asdict(holder)))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_run_is_claimed_once_and_can_be_given_back(store):
    with Claims(store) as one, Claims(store) as other:
        assert one.take(QUICK) and one.take(QUICK) and not other.take(QUICK)
        assert other.take(CONFIG) and one.holder(QUICK).startswith(f"process {os.getpid()} on ")
        other.release(QUICK)
        assert not other.take(QUICK)
        one.release(QUICK)
        assert other.take(QUICK)
    assert not list((store.folder / "claims").iterdir())


ELSEWHERE = replace(this_process(), machine="another", host="node7")


@pytest.mark.parametrize(
    ("holder", "age", "taken"),
    [
        (ELSEWHERE, STALE - 60, False),
        (ELSEWHERE, STALE + 60, True),
        (this_process(), STALE - 60, False),
        (replace(this_process(), started=1), 0, True),
        (replace(ELSEWHERE, job="12"), 0, True),
        (replace(ELSEWHERE, job="13"), 0, False),
        (replace(ELSEWHERE, job="12", restarts=1), 0, False),
    ],
    ids=["renewed", "silent", "alive", "process gone", "requeued", "another job", "this job"],
)
def test_a_claim_is_taken_over_from_the_dead_alone(holder, age, taken, store, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    claim_of(store, holder, age)
    said = []
    with Claims(store, said.append) as claims:
        assert claims.take(QUICK) is taken
    assert said == [f"{QUICK.slug} was claimed by {holder}, which is gone: taken over"] * taken


def test_a_claim_that_cannot_be_read_goes_by_its_time(store):
    claim_of(store, ELSEWHERE).write_text("{")
    with Claims(store) as claims:
        assert not claims.take(QUICK)
        claim_of(store, ELSEWHERE, STALE + 60)
        assert claims.take(QUICK)


def test_claims_are_renewed(store, monkeypatch):
    monkeypatch.setattr(module, "RENEW", 0.01)
    with Claims(store) as claims:
        assert claims.take(QUICK)
        (path,) = (path for path in (store.folder / "claims").iterdir() if path.name[0] != ".")
        os.utime(path, (0, 0))
        patience = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < patience
            time.sleep(0.01)


TAKES = """
import json, sys
from pathlib import Path
from bench.config import Config
from bench.records.store import Store
from bench.sweeps.sharing import Claims
QUICK = Config(**json.loads(sys.argv[2]))
with Claims(Store(Path(sys.argv[1]))) as claims:
    sys.stdin.readline()
    print(claims.take(QUICK), flush=True)
    sys.stdin.readline()
"""


def test_one_of_many_takes_a_stale_claim(store):
    """All at the same moment."""
    claim_of(store, replace(this_process(), started=1))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", TAKES, str(store.folder), json.dumps(asdict(QUICK))]
    racers = [subprocess.Popen(command, **pipes) for _ in range(4)]
    patience = time.monotonic() + 60
    while len(list((store.folder / "claims").glob(".*"))) < len(racers):
        assert time.monotonic() < patience
        time.sleep(0.05)
    for line in "take", "end":
        for racer in racers:
            racer.stdin.write(f"{line}\n")
            racer.stdin.flush()
        if line == "take":
            assert sorted(racer.stdout.readline() for racer in racers) == ["False\n"] * 3 + ["True\n"]
    assert [racer.wait() for racer in racers] == [0] * 4


def shared(folder, configs):
    from bench.sweeps.executors import local

    local.RETRY = 0.2
    sweep(folder, configs)


def test_two_sweeps_share_a_folder(tmp_path):
    """One is killed half way; the other takes its runs over. The records are those of an undisturbed sweep."""
    first = start(tmp_path, CONFIGS)
    while not list(tmp_path.glob("checkpoints/*.pt")):
        time.sleep(0.01)
    second = FORKS.Process(target=shared, args=(tmp_path, list(reversed(CONFIGS))))
    second.start()
    while len(list(Store(tmp_path).paths())) < 2:
        time.sleep(0.01)
    first.kill()
    second.join()
    assert second.exitcode == 0
    found = records(tmp_path, CONFIGS)
    assert all(record["status"] == "ok" for record in found)
    assert "which is gone: taken over" in (tmp_path / "said").read_text()
    alone = FORKS.Process(target=sweep, args=(tmp_path / "alone", CONFIGS))
    alone.start()
    alone.join()
    assert records(tmp_path / "alone", CONFIGS) == found
