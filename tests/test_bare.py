"""A machine without network and with little installed: it makes records all the same, and names what it lacks."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
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
def bare(tmp_path):
    """Runs Python in the checkout without those packages, without this project installed, without git or network."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/sitecustomize.py").write_text(BARE)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/tiny.yaml").write_text(TINY)

    def python(*arguments):
        environment = os.environ | {
            "PATH": "",
            "PYTHONPATH": str(tmp_path / "bare"),
            "BENCH_EXPERIMENTS": str(tmp_path / "experiments"),
            "BENCH_DATA": str(tmp_path / "data"),
        }
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    return python


@pytest.mark.slow
def test_a_sweep_makes_records(bare, tmp_path):
    process = bare("-m", "bench", "sweep", "tiny", "--scale", "quick", "--results", tmp_path / "out", "--workers", "1")
    assert process.returncode == 0, process.stderr
    records = [json.loads(path.read_text()) for path in Store(tmp_path / "out/quick").paths()]
    assert [record["status"] for record in records] == ["ok", "ok"]
    assert {record["source"]["commit"] for record in records} == {None}
    assert {record["source"]["digest"] for record in records} == {source().digest}


def test_images_are_decoded_and_trials_planned(bare, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (7, 8, 9)).save(file, "PNG")
    rows = {"image": [{"bytes": file.getvalue(), "path": None}], "label": [3]}
    pq.write_table(pa.table(rows), tmp_path / "images.parquet")
    process = bare(
        "-c",
        "import sys, bench.data; from bench.data._parquet import read_split; from bench.sweeps.tune import trials\n"
        "split = read_split([bench.data.Path(sys.argv[1])], 10)\n"
        "print(split.inputs[0, :, 0, 0].tolist(), split.targets.tolist(), len(trials('mlp', 'quick', 'bp')[0]))\n"
        "bench.data.DATASETS.all()",
        tmp_path / "images.parquet",
    )
    assert (process.stdout, process.stderr) == ("[7, 8, 9] [3] 10\n", "")


@pytest.mark.parametrize(
    ("command", "package"),
    [(["replication"], "seaborn"), (["bench", "data", "--download", "cifar10"], "datasets")],
)
def test_what_is_missing_is_named_where_it_is_needed(command, package, bare):
    process = bare("-m", *command)
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1
    assert repr(package) in process.stderr
