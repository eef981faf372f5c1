"""Which runs train as one program, and how many a GPU holds; its memory is simulated."""

from dataclasses import replace

import pytest
import torch

import bench.sweeps.groups
import bench.training.loop
from bench.config import Config
from bench.records.store import Store
from bench.sweeps.groups import fitting, programs

BASE = Config(model="mlp", dataset="digits", rule="ldfa", rank="2", model_options={"width": 8}, epochs=1)
VIT = {"model": "vit", "model_options": {"patch": 4, "width": 8, "depth": 1, "heads": 2}}


def seeds(n, **changes):
    return [replace(BASE, **changes, seed=seed) for seed in range(n)]


def test_runs_that_differ_in_seed_and_rank_share_a_program_and_the_order_stays():
    ranks, rates = [replace(BASE, rank=rank) for rank in ("4", "B1=1", "full")], seeds(2, lr=0.1)
    assert programs([*seeds(2), *rates, *ranks]) == [[*seeds(2), *ranks], rates]


@pytest.mark.parametrize(
    "changes",
    [
        {"rule": "dfa", "rank": None},
        {"rule": "wm", "rank": None},
        {"precision": "bfloat16"},
        {
            "model": "linear",
            "model_options": {},
            "dataset": "linear-teacher:8",
            "batch_size": 0,
            "precision": "float64",
        },
    ],
    ids=["direct", "draws", "bfloat16", "drawn data"],
)
def test_runs_that_train_on_their_own(changes):
    runs = seeds(2, **changes)
    assert programs(runs) == [[run] for run in runs]


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with 1,000 of 2,000 bytes free. At its peak a step of n members takes 100 + 30 n, a second 100 + 50 n."""
    peaks = []

    def train_together(program, device, steps):
        peaks.append(100 + (30 if steps == 1 else 50) * len(program))

    monkeypatch.setattr(bench.training.loop, "train_together", train_together)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1_000, 2_000))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peaks[-1])


def test_as_many_as_the_free_memory_holds(gpu):
    """100 + 50 n within four fifths of it, or of the part that is a worker's: 500 of four."""
    assert fitting(seeds(99), "cuda") == fitting(seeds(99), "cuda", workers=2) == 14
    assert fitting(seeds(99), "cuda", workers=4) == 6
    assert fitting(seeds(5), "cuda") == 5
    assert fitting(seeds(99), "cpu") == 99


def train_first(program, folder, most=None):
    return bench.sweeps.groups.train_first(program, most, Store(folder), "test", "quick", "cpu", float("inf"))


def test_runs_go_one_by_one_where_their_memory_cannot_be_measured(tmp_path, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("vmap: no batching rule")

    monkeypatch.setattr(bench.sweeps.groups, "fitting", fails)
    (record,), said = train_first(seeds(3), tmp_path)
    assert record["status"] == "ok"
    assert said == "training together failed, so the runs continue one by one: RuntimeError: vmap: no batching rule"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), torch.OutOfMemoryError()])
def test_an_error_of_one_run_ends(error, tmp_path, monkeypatch):
    def fails(*arguments):
        raise error

    monkeypatch.setattr(Store, "write", fails)
    with pytest.raises(type(error)):
        train_first(seeds(2), tmp_path)


def test_a_program_goes_on_with_the_runs_of_its_checkpoint(tmp_path, monkeypatch):
    """Whatever the memory holds now; and a state that is given up is deleted."""
    program, store = seeds(4, epochs=3), Store(tmp_path)
    monkeypatch.setattr(bench.sweeps.groups, "fitting", lambda *_: 3)
    records, _ = bench.sweeps.groups.train_first(program, None, store, "test", "quick", "cpu", 0.0)
    assert [record["status"] for record in records] == ["paused"] * 3
    monkeypatch.setattr(bench.sweeps.groups, "fitting", lambda *_: 4)
    records, _ = train_first(program, tmp_path)
    assert [record["population"] for record in records] == [3] * 3
    assert not list((tmp_path / "checkpoints").iterdir())
