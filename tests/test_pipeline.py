"""The DVC pipelines: each scale trains its experiments and no others, in order, and nothing twice."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import networkx
import pytest
import yaml
from dvc.repo import Repo

from bench.records.store import Store
from bench.sweeps import pipeline
from bench.sweeps.experiments import experiment, names
from bench.sweeps.protocols import COMMITTED, tuned_path

ROOT = Path(__file__).parent.parent
PIPELINES = {"gpu": "dvc.yaml"} | {scale: f"pipelines/{scale}/dvc.yaml" for scale in ("quick", "cpu", "paper")}
BY_EXPERIMENT = [scale for scale in PIPELINES if scale != "quick"]
LOCKED = [scale for scale in BY_EXPERIMENT if (ROOT / PIPELINES[scale]).with_suffix(".lock").exists()]


def trained(scale):
    """The experiments of a scale that have a run which none of those that they reuse has; others need no stage."""

    def digests(name):
        return {config.digest for runs in experiment(name).plans(scale, COMMITTED) for config in runs}

    found = [name for name in names() if scale in experiment(name).scales]
    return {name for name in found if digests(name).difference(*map(digests, {*experiment(name).reuses} & {*found}))}


@pytest.fixture(scope="module")
def stages():
    """The stages of every scale, by the name of the experiment or else of the stage, and the graph of them all."""
    with Repo(str(ROOT)) as repo:
        by_scale = {
            scale: {
                stage.name.removeprefix("sweep@").removeprefix("sweep-after@"): stage
                for stage in repo.index.stages
                if stage.path_in_repo == file
            }
            for scale, file in PIPELINES.items()
        }
        yield by_scale, repo.index.graph


def paths(outputs):
    return {os.path.relpath(output.fs_path, ROOT) for output in outputs}


@pytest.mark.parametrize("scale", BY_EXPERIMENT)
def test_every_experiment_with_runs_of_its_own_is_a_stage(stages, scale):
    by_scale, _ = stages
    swept = {name for name, stage in by_scale[scale].items() if " sweep " in stage.cmd}
    assert swept == trained(scale)


def test_quick_is_one_sweep_that_reruns_for_its_experiments_settings(stages):
    by_scale, _ = stages
    (stage,) = (stage for stage in by_scale["quick"].values() if " sweep " in stage.cmd)
    swept = [name for name in names() if "quick" in experiment(name).scales]
    command, ordered = stage.cmd.split("--scale quick ")
    assert command == "python -m bench sweep " and sorted(ordered.split()) == sorted(swept)
    place = ordered.split().index
    assert all(place(reused) < place(name) for name in swept for reused in experiment(name).reuses)
    models = {experiment(name).model for name in swept}
    assert {os.path.relpath(p.fs_path, ROOT): p.params for p in stage.params} == {
        **{f"replication/experiments/{name}.yaml": ["scales.quick"] for name in swept},
        **{f"bench/sweeps/protocols/{model}.yaml": ["quick"] for model in models},
        **{f"bench/records/golden/{model}.json": ["version", "rules"] for model in models},
    }
    assert "results/quick/tuned" in paths(stage.deps) and paths(stage.outs) == {"results/quick/records"}


@pytest.mark.parametrize(
    ("name", "scale"), [(name, scale) for scale in BY_EXPERIMENT for name in sorted(trained(scale))]
)
def test_sweep_reruns_for_its_own_settings_alone(stages, name, scale):
    by_scale, graph = stages
    stage, model = by_scale[scale][name], experiment(name).model
    device = "cuda" if scale in ("gpu", "paper") and model != "linear" else "cpu"
    sweep = f"python -m bench sweep {name} --scale {scale}"
    many = " --workers 8" if scale == "gpu" else ""
    assert stage.cmd in ({f"{sweep} --device cuda{many}"} if device == "cuda" else {sweep, f"{sweep} --device cpu"})
    assert {os.path.relpath(p.fs_path, ROOT): p.params for p in stage.params} == {
        f"replication/experiments/{name}.yaml": [f"scales.{scale}"],
        f"bench/sweeps/protocols/{model}.yaml": [scale],
        f"bench/records/golden/{model}.json": ["version", "rules"],
    }
    (records,) = stage.outs
    assert paths(stage.outs) == {f"results/{scale}/records/{name}"}
    assert records.persist
    assert not records.use_cache

    needs = {f"results/{scale}/records/{reused}" for reused in experiment(name).reuses}
    if tuned_path(model, scale, COMMITTED).exists():
        needs.add(f"results/{scale}/tuned/{model}.json")
    before = networkx.descendants(graph, stage) | {stage}
    assert needs <= {path for upstream in before for path in paths(upstream.deps)}


@pytest.mark.parametrize("scale", PIPELINES)
def test_report_comes_last_and_trains_no_other_scale(stages, scale):
    by_scale, graph = stages
    report = by_scale[scale]["report"]
    assert networkx.descendants(graph, report) == set(by_scale[scale].values()) - {report}


@pytest.mark.parametrize("scale", LOCKED)
def test_what_is_recorded_is_locked_and_up_to_date(stages, scale, monkeypatch):
    by_scale, _ = stages
    lock = yaml.safe_load((ROOT / PIPELINES[scale]).with_suffix(".lock").read_text())["stages"]
    monkeypatch.chdir(ROOT)
    with Repo() as repo:
        status = repo.status([f"{PIPELINES[scale]}:{name}" for name in lock])
    assert status == {}, f"run `make repro SCALE={scale}` and commit its lock and results"
    store = Store(ROOT / "results" / scale)
    grids = {name: experiment(name).recorded(scale, store, needed=True) for name in names() if name in by_scale[scale]}
    recorded = {name for name, runs in grids.items() if all(record is not None for _, record in runs)}
    assert {name for name in grids if by_scale[scale][name].name in lock} == recorded


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.slow
def test_quick_trains_once_and_is_out_of_date_only_for_its_own_settings(tmp_path, monkeypatch):
    for name in (".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("bench", "pipelines", "replication"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.lock"))
    shutil.copytree(ROOT / "results/quick/tuned", tmp_path / "results/quick/tuned")
    grids = {path: yaml.safe_load(path.read_text()) for path in (tmp_path / "replication/experiments").glob("*.yaml")}
    for path, content in grids.items():
        content["scales"]["quick"] = {"seeds": 1, "runs": [{"rule": "bp", "epochs": 1}]}
        path.write_text(yaml.safe_dump(content))
    grid = tmp_path / "replication/experiments/mlp-all-layers.yaml"
    content = grids[grid]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    target = [f"{PIPELINES['quick']}:sweep"]

    def status():
        with Repo() as repo:
            return repo.status(target)

    with Repo() as repo:
        assert [stage.name for stage in repo.reproduce(target)] == ["sweep"]
    (record,) = Path("results/quick/records/mlp-all-layers").iterdir()
    trained = record.stat().st_mtime_ns
    with Repo() as repo:
        assert repo.reproduce(target) == []
    assert record.stat().st_mtime_ns == trained
    assert status() == {}

    content["scales"]["cpu"]["seeds"] = 99
    grid.write_text("# the same settings\n" + yaml.safe_dump(content))
    edit(Path("bench/sweeps/protocols/mlp.yaml"), "epochs: 150", "epochs: 151")
    assert status() == {}

    golden = Path("bench/records/golden/mlp.json")
    settings = golden.read_text()
    golden.write_text(json.dumps(json.loads(settings) | {"rules": {"bp": 2}}))
    assert list(status()) == target
    golden.write_text(settings)
    assert status() == {}

    content["scales"]["quick"]["seeds"] = 2
    grid.write_text(yaml.safe_dump(content))
    assert list(status()) == target


# Stages by another engine than DVC


def test_stages_that_train_come_in_order_of_dependency():
    ordered = pipeline.stages(PIPELINES["gpu"])
    place = {stage.name: number for number, stage in enumerate(ordered)}
    assert all(place[name] < place[stage.name] for stage in ordered for name in stage.after)
    assert "tune@mlp" in {name for stage in ordered if stage.records == "mlp-all-layers" for name in stage.after}
    assert {stage.records for stage in ordered} == trained("gpu") | {
        f"tune-{m}" for m in ("mlp", "cnn", "vit", "retina")
    }
    assert all(stage.arguments[0] in ("tune", "sweep") for stage in ordered)


def test_a_stage_begins_as_soon_as_those_before_it_ended_and_not_after_one_that_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "PATIENCE", 0.01)
    statuses = {"tune": 0, "other": 1, "first": 0, "second": 0, "after other": 0}
    after = {"first": ["tune"], "second": ["tune", "first"], "after other": ["other"]}
    todo = [pipeline.Stage(name, [], after.get(name, [])) for name in reversed(statuses)]
    said = []

    def start(stage):
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({statuses[stage.name]})"])

    ended = pipeline.train(todo, start, said.append)
    assert ended == {"tune": 0, "other": 1, "first": 0, "second": 0}
    assert "other: failed, exit status 1" in said
    order = "tune: ended", "first: begun", "first: ended", "second: begun"
    assert [line for line in said if line in order] == list(order)
