"""What `dvc metrics` and `dvc plots` read."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc.repo import Repo

from bench.sweeps.experiments import alternative, experiment
from replication import metrics
from replication.claims import CLAIMS
from replication.claims.base import judged, results_for
from replication.findings import Finding
from replication.results import results

ROOT = Path(__file__).parents[1]
PLOTS = [plot for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] for plot in entry.values()]


@pytest.fixture
def written(tmp_path, made_up):
    """The folder, with the metrics of N2 from made-up records: `ldfa` 0.5 points above `bp`."""
    results.cache_clear()
    for config in experiment("mlp-all-layers").configs("cpu", alternative(0), tmp_path, claims=True):
        accuracy = {"bp": 60.0, "ldfa": 60.5}[config.rule] - 5 * ("width" in config.model_options) + 0.1 * config.seed
        made_up(config, accuracy, experiment="mlp-all-layers")
    claim = CLAIMS.get("n2")
    found = results_for(claim, tmp_path)
    metrics.write([Finding("n2", claim, found, judged(claim, *found))], tmp_path)
    yield tmp_path
    results.cache_clear()


def test_the_verdicts_numbers(written):
    numbers = json.loads((written / "metrics.json").read_text())["N2"]
    assert (numbers["verdict"], numbers["level"], numbers["seeds"]) == ("supported", "full", 5)
    assert (numbers["conditions"], numbers["conditions that hold"]) == (2, 2)
    assert sorted(numbers["estimates"].values()) == pytest.approx([0.5, 5.5])


def test_curves_are_means_over_seeds_and_have_the_columns_that_dvc_plots(written):
    for plot in PLOTS:
        ((path, columns),) = plot["y"].items()
        for folder in (written, ROOT / "results"):
            table = pd.read_csv(folder / Path(path).relative_to("results"))
            assert {plot["x"], *columns} <= set(table.columns)
    curve = pd.read_csv(written / "curves" / "mlp-all-layers.csv").set_index("epoch")
    assert list(curve.index) == list(range(1, 31))
    assert set(curve["bp"]) == {60.2} and set(curve["ldfa r=10"]) == {60.7} and curve["fa"].isna().all()


def test_dvc_shows_the_metrics_and_finds_the_plots():
    with Repo(str(ROOT)) as repo:
        shown = repo.metrics.show()[""]["data"]
        assert set(shown["results/metrics.json"]["data"]) == {name.upper() for name in CLAIMS.names()}
        found = repo.plots.show()["workspace"]
        assert len(found["definitions"]["data"]["dvc.yaml"]["data"]) == len(PLOTS)
        assert all("error" not in source for source in found["sources"]["data"].values())
