"""Experiments: what a file expands to, and what a user is told of a wrong one."""

import pytest
import yaml

import bench.data
from bench.data import DATASETS, load_once
from bench.errors import UsageError
from bench.records.store import Store
from bench.sweeps.experiments import alternative, experiment, names


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes `trial.yaml`, an experiment, with changes."""
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path))

    def write(runs, **changes):
        grid = {"seeds": 2, "runs": runs}
        content = {"title": "A trial", "model": "mlp", "scales": {"quick": grid | changes.pop("grid", {})}} | changes
        (tmp_path / "trial.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return experiment("trial")

    return write


def test_lists_multiply_in_order_and_seeds_of_a_setting_stand_together(write):
    widths = [{"width": 8}, {"width": 16}]
    configs = write([{"rule": "ldfa", "rank": ["4", "1"], "model_options": widths}, {"rule": "bp"}]).configs("quick")
    assert [(c.rule, c.rank, c.model_options["width"], c.seed) for c in configs] == [
        *(("ldfa", rank, width, seed) for rank in ("4", "1") for width in (8, 16) for seed in (0, 1)),
        *(("bp", None, 128, seed) for seed in (0, 1)),
    ]
    assert {(c.model, c.dataset) for c in configs} == {("mlp", "digits")}


def test_a_rank_may_be_a_number(write):
    configs = write([{"rule": "ldfa", "rank": [2, 0.5, "1/4", "full"]}]).configs("quick")
    assert [config.rank for config in configs if config.seed == 0] == ["2", "0.5", "1/4", "full"]


def test_the_runs_that_claims_read_come_first_and_can_stand_alone(write, tmp_path):
    trial = write([{"rule": "fa"}], grid={"claims": [{"rule": ["bp", "kp"]}]})
    assert [(c.rule, c.seed) for c in trial.configs("quick")] == [(r, s) for r in ("bp", "kp", "fa") for s in (0, 1)]
    assert {c.rule for c in trial.configs("quick", claims=True)} == {"bp", "kp"}
    store = Store(tmp_path)
    assert [len(trial.recorded("quick", store, needed=needed)) for needed in (False, True)] == [6, 4]
    plain = write([{"rule": "fa"}])
    assert len(plain.recorded("quick", store, needed=True)) == 2
    with pytest.raises(UsageError, match=r"^--claims: no claim reads experiment 'trial' at scale quick"):
        plain.configs("quick", claims=True)


def test_options_of_a_run_stand_above_those_of_the_protocol_one_by_one(write):
    (config, _) = write([{"rule": "bp", "model_options": {"dropout": 0.1}}]).configs("quick")
    assert config.model_options == {"width": 128, "dropout": 0.1}
    (config, _) = write([{"rule": "bp", "model_options": {"width": 9}}]).configs("quick")
    assert config.model_options == {"width": 9}


@pytest.mark.parametrize("scale", ["quick", "cpu", "gpu", "paper"])
def test_experiments_on_the_mlp_share_the_runs_that_they_have_in_common(scale):
    """They measure alike, so that each reuses what another trained."""
    found = [experiment(name) for name in names() if name != "mlp-classes"]
    mlp = [each for each in found if each.model == "mlp" and scale in each.scales]
    configs = [config for each in mlp for config in each.configs(scale, alternative(0))]
    trained = {(c.setting, c.seed, c.lr, c.weight_decay, c.feedback_rate) for c in configs}
    assert len(trained) == len({c.digest for c in configs})
    base = {c.digest for c in experiment("mlp-all-layers").configs(scale, alternative(0))}
    for each in mlp:
        shared = base & {config.digest for config in each.configs(scale, alternative(0))}
        assert each.name == "mlp-all-layers" or (shared and "mlp-all-layers" in each.reuses)


def test_settings_of_a_run_stand_above_the_protocol(write):
    (config, _) = write([{"rule": "ldfa", "lr": 7, "clip": None}]).configs("quick")
    assert (config.lr, config.clip, config.rank, config.batch_size) == (7.0, None, "full", 32)
    (config, _) = write([{"rule": "bp"}], grid={"datasets": ["digits:3"]}).configs("quick")
    assert config.dataset == "digits:3"


def test_groups_of_classes_are_datasets_of_the_alternative_that_is_here(write, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    runs = [{"rule": "ldfa", "rank": ["2", "1"], "classes": [3, 5, 20], "among": 8}]
    configs = write(runs, grid={"datasets": ["cifar100", "digits"]}).configs("quick")
    parts = ["digits:3", "digits:3@1", "digits:5"]
    assert [(c.rank, c.dataset, c.seed) for c in configs] == [
        (rank, part, seed) for rank in ("2", "1") for part in parts for seed in (0, 1)
    ]


def test_a_dataset_is_read_once_for_all_its_parts(monkeypatch):
    reads = []
    digits = DATASETS.get("digits")
    monkeypatch.setattr(digits, "read", lambda folder, read=digits.read: reads.append(folder) or read(folder))
    bench.data._loaded.cache_clear()
    names = [load_once(name, seed).name for name in ("digits:5", "digits:5@1", "digits") for seed in (0, 1)]
    assert names == ["digits:5"] * 2 + ["digits:5@1"] * 2 + ["digits"] * 2
    assert len(reads) == 1


def test_the_first_dataset_that_is_here_is_used(write, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    (config, _) = write([{"rule": "bp"}], grid={"datasets": ["cifar10", "digits"]}).configs("quick")
    assert config.dataset == "digits"


@pytest.mark.parametrize(
    ("runs", "changes", "words"),
    [
        ([], {"modl": "mlp"}, ["trial.yaml", "'modl'", "did you mean 'model'?"]),
        ([], {"scales": {"quick": {"seeds": 2}}}, ["trial.yaml", "quick", "'runs' is missing"]),
        ([], {"grid": {"seeds": "2"}}, ["trial.yaml", "seeds", "'2'", "int"]),
        ([], {"grid": {"datasets": "digits"}}, ["trial.yaml", "datasets", "'digits'"]),
        (["bp"], {}, ["trial.yaml", "runs", "'bp'", "dict"]),
        ([{"rank": "3"}], {}, ["rule"]),
        ([{"rule": "bpp"}], {}, ["unknown rule 'bpp'", "did you mean 'bp'?"]),
        ([{"rule": "bp", "lrr": 1.0}], {}, ["'lrr'", "did you mean 'lr'?"]),
        ([{"rule": "bp", "lr": "fast"}], {}, ["lr", "'fast'", "float"]),
        ([{"rule": {"a": 1}}], {}, ["trial.yaml", "rule: {'a': 1} is not allowed; expected: str"]),
        ([{"rule": "bp", "dataset": 5}], {}, ["trial.yaml", "dataset: 5 is not allowed; expected: str"]),
        ([{"rule": "bp", "model_options": [{"width": 4}, 5]}], {}, ["trial.yaml", "model_options: 5", "dict"]),
        ([{"rule": "bp"}], {"scales": {1: {"seeds": 2, "runs": []}}}, ["trial.yaml", "scales", "dict"]),
        ([{"rule": "bp"}], {"reuses": ["a**b"]}, ["trial.yaml", "reuses: 'a**b' is no name of an experiment"]),
        ([{"rule": "bp", "classes": 0}], {}, ["trial.yaml", "0 classes", "1 or more"]),
        ([{"rule": "bp", "among": 5}], {}, ["trial.yaml", "'among'", "'classes'"]),
        ([{"rule": "bp", "classes": 5, "dataset": ["digits", "cifar10"]}], {}, ["trial.yaml", "several datasets"]),
        ([{"rule": "bp"}], {"model": "mpl"}, ["unknown model 'mpl'", "did you mean 'mlp'?"]),
        ([{"rule": "bp"}], {"grid": {"datasets": ["digit"]}}, ["unknown dataset 'digit'", "did you mean 'digits'?"]),
    ],
)
def test_a_wrong_experiment_file_is_named_in_one_line(write, runs, changes, words):
    with pytest.raises(UsageError) as error:
        write(runs, **changes).configs("quick")
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_an_experiment_or_a_scale_that_does_not_exist(write):
    trial = write([{"rule": "bp"}])
    assert "trial" in names()
    with pytest.raises(
        UsageError, match=r"^unknown experiment 'trail' \(did you mean 'trial'\?\); expected: .*, trial, "
    ):
        experiment("trail")
    with pytest.raises(UsageError, match=r"^unknown scale 'quik' \(did you mean 'quick'\?\)"):
        trial.configs("quik")
    with pytest.raises(UsageError, match=r"^--scale gpu: experiment 'trial' has no such scale; expected: quick$"):
        trial.configs("gpu")
