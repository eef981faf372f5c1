"""Records as a dataset."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench.cli import main
from bench.records.export import COLUMNS
from bench.records.store import seal
from bench.sweeps.protocols import configure

RESULTS = Path(__file__).parents[1] / "results"


@pytest.fixture
def recorded(tmp_path, made_up):
    """Two runs at scale cpu, one of which diverged, and one at scale quick; a file that is no record."""
    runs = {"cpu": [("kp", 0, 50.0), ("kp", 1, None)], "quick": [("bp", 0, 90.0)]}
    for scale, of_scale in runs.items():
        for rule, seed, accuracy in of_scale:
            config = configure("mlp", rule, scale, seed=seed, choose=lambda names: names[0], results=None)
            made_up(config, accuracy, scale=scale, experiment="mlp-all-layers")
    (tmp_path / "cpu" / "records" / "mlp-all-layers" / "broken.json").write_text("{}")
    return tmp_path


def test_datasets_reads_what_export_writes(recorded, tmp_path, monkeypatch, capsys):
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "dataset"
    assert main(["export", str(folder), "--results", str(recorded)]) == 0
    said = capsys.readouterr()
    assert "1 at scale quick, 2 at scale cpu" in said.out
    assert "broken.json" in said.err
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    found = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in found.items()} == {"quick": 1, "cpu": 2}
    assert found["cpu"].column_names == list(COLUMNS)
    ended, diverged = sorted(found["cpu"], key=lambda row: row["seed"])
    assert (ended["task"], ended["rule"], ended["accuracy"], ended["status"]) == ("mlp/1", "kp", 50.0, "ok")
    assert (diverged["accuracy"], diverged["status"], diverged["rank"]) == (None, "diverged", None)
    assert ended["test_accuracy"][:2] == [None, 50.0] and len(ended["epochs"]) == len(ended["train_loss"])
    record = json.loads(ended["record"])
    assert record["seal"] == seal(record) == ended["seal"]


def test_the_mean_of_a_setting_in_the_card_is_that_of_the_leaderboard(tmp_path):
    """By the lines of the card itself, on the committed records, without runs that someone made by hand."""
    datasets, folder = pytest.importorskip("datasets"), tmp_path / "dataset"
    committed = tmp_path / "results"
    for scale in ("paper", "cpu"):
        shutil.copytree(RESULTS / scale / "records/mlp-all-layers", committed / scale / "records/mlp-all-layers")
    (committed / "cpu/records/run").mkdir()
    for path in list((committed / "cpu/records/mlp-all-layers").glob("bp-s*"))[:2]:
        shutil.copy(path, committed / "cpu/records/run")
    assert main(["export", str(folder), "--results", str(committed)]) == 0
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    *_, query, grouped = code.splitlines()
    board = pd.read_csv(RESULTS / "leaderboard.csv", dtype={"rank": str}).query("rule == 'ldfa' and rank == '10'")
    for scale, settings in (("paper", 3), ("cpu", 1)):
        runs = datasets.load_dataset(str(folder), split=scale, cache_dir=str(tmp_path / "cache")).to_pandas()
        runs = eval(query.removeprefix("runs = "), {"runs": runs})
        means = eval(grouped, {"runs": runs}).reset_index()
        ours = means[means["setting"].str.startswith("ldfa r=10")]
        theirs = board[(board["scale"] == scale) & (board["dataset"] == "cifar10") & (board["task"] == "mlp/1")]
        assert len(ours) == settings
        shown = zip(ours["mean"].round(3), ours["count"], strict=True)
        assert set(shown) <= set(zip(theirs["mean"].round(3), theirs["n"], strict=True))


def test_the_card_says_licence_versions_and_every_column(recorded, tmp_path):
    folder = tmp_path / "dataset"
    main(["export", str(folder), "--results", str(recorded)])
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n") and "Benchmark 0.1.0" in card and "arXiv:2502.20580" in card
    assert all(f"| `{name}` | `{column.type}` |" in card for name, column in COLUMNS.items())


def test_a_folder_that_holds_something_is_left_alone(recorded, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["export", str(tmp_path / "mine"), "--results", str(recorded)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert main(["export", str(tmp_path / "new"), "--results", str(tmp_path / "none")]) == 2
    assert "no valid records found" in capsys.readouterr().err and not (tmp_path / "new").exists()
