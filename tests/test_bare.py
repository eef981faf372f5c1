"""A machine without network and with little installed: it makes records all the same, and names what it lacks."""

import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forks import FORKS
from PIL import Image

from bench.records.source import source
from bench.records.store import Store

ROOT = Path(__file__).parent.parent
BARE = """
import importlib.metadata, socket, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("datasets", "dvc", "seaborn", "matplotlib", "pytest"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def distribution(name, found=importlib.metadata.Distribution.from_name):
    if name == "low-dimensional-feedback-bench":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)

def refuse(*arguments):
    raise OSError("no network")

sys.meta_path.insert(0, Absent())
importlib.metadata.distribution = distribution
socket.getaddrinfo = socket.socket.connect = refuse
"""
TINY = """
title: Two rules
model: mlp
scales:
  quick: {seeds: 1, runs: [{rule: [bp, ldfa], epochs: 1}]}
"""


@pytest.fixture
def environment(tmp_path):
    """Of the checkout without those packages, without this project installed, without git or network."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/sitecustomize.py").write_text(BARE)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/tiny.yaml").write_text(TINY)
    return {
        "PATH": "",
        "PYTHONPATH": str(tmp_path / "bare"),
        "BENCH_EXPERIMENTS": str(tmp_path / "experiments"),
        "BENCH_DATA": str(tmp_path / "data"),
    }


@pytest.fixture
def bare(environment, tmp_path):
    """Calls a function in a fork that has this environment: exit status, output, errors."""

    def bare(function, *arguments):
        process = FORKS.Process(target=forked, args=(environment, tmp_path, function, arguments))
        process.start()
        process.join()
        return process.exitcode, (tmp_path / "1").read_text(), (tmp_path / "2").read_text()

    return bare


def forked(environment, folder, function, arguments):
    for stream in (1, 2):
        os.dup2(os.open(folder / str(stream), os.O_WRONLY | os.O_CREAT), stream)
    os.environ.update(environment)
    os.chdir(ROOT)
    exec(BARE, {})
    assert not {"datasets", "dvc", "seaborn", "matplotlib"} & sys.modules.keys()
    sys.exit(function(*arguments))


@pytest.mark.slow
def test_a_sweep_makes_records(environment, tmp_path):
    sweep = ["sweep", "tiny", "--scale", "quick", "--results", str(tmp_path / "out"), "--workers", "1"]
    command = [sys.executable, "-m", "bench", *sweep]
    process = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    records = [json.loads(path.read_text()) for path in Store(tmp_path / "out/quick").paths()]
    assert [record["status"] for record in records] == ["ok", "ok"]
    assert {record["source"]["commit"] for record in records} == {None}
    assert {record["source"]["digest"] for record in records} == {source().digest}


def reads_and_plans(path):
    import bench.data
    from bench.data._parquet import read_split
    from bench.sweeps.tune import trials

    split = read_split([path], 10)
    print(split.inputs[0, :, 0, 0].tolist(), split.targets.tolist(), len(trials("mlp", "quick", "bp")[0]))
    bench.data.DATASETS.all()


def test_images_are_decoded_and_trials_planned(bare, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (7, 8, 9)).save(file, "PNG")
    rows = {"image": [{"bytes": file.getvalue(), "path": None}], "label": [3]}
    pq.write_table(pa.table(rows), tmp_path / "images.parquet")
    assert bare(reads_and_plans, tmp_path / "images.parquet") == (0, "[7, 8, 9] [3] 10\n", "")


def module(name, *arguments):
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


@pytest.mark.parametrize(
    ("command", "package"),
    [(["replication"], "seaborn"), (["bench", "data", "--download", "cifar10"], "datasets")],
)
def test_what_is_missing_is_named_where_it_is_needed(command, package, bare):
    status, out, err = bare(module, *command)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert repr(package) in err
