"""Rules, networks, datasets and experiments of another package, as the documents show them."""

import hashlib
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from bench.cli import main
from bench.records.golden import trajectories as golden
from bench.records.source import shown
from bench.records.store import Store
from bench.rules import RULES
from bench.sweeps.experiments import experiment
from bench.sweeps.groups import run
from bench.testing import RuleContract
from replication.results import results_of

DOCUMENTS = Path(__file__).parents[1] / "docs"


def block(document, language):
    """The first block of code of a language in a document."""
    text = (DOCUMENTS / f"{document}.md").read_text()
    return re.search(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]


def install(folder, package, files, entry_points):
    """Writes a package into a folder of the path, with the metadata that pip would give it."""
    metadata = folder / f"{package}-1.0.dist-info"
    for path in (folder / package, metadata):
        path.mkdir(parents=True)
    for name, text in ({"__init__.py": ""} | files).items():
        (folder / package / name).write_text(text)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [line for group, points in entry_points.items() for line in (f"[{group}]", *points)]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def my_bench(tmp_path_factory):
    """The package `my_bench` of the documents, installed; its folder."""
    rule, network, dataset = "adding-a-rule", "adding-a-network", "adding-a-dataset"
    files = {
        "fa_sparse.py": block(rule, "python"),
        "shallow.py": block(network, "python"),
        "shallow.yaml": block(network, "yaml"),
        "stripes.py": block(dataset, "python"),
    }
    entry_points = {
        group: [f"{name} = {value}" for name, value in points.items()]
        for document in (rule, network, dataset)
        for group, points in tomllib.loads(block(document, "toml"))["project"]["entry-points"].items()
    }
    folder = tmp_path_factory.mktemp("packages")
    install(folder, "my_bench", files, entry_points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / "my_bench"


@pytest.mark.usefixtures("my_bench")
class TestRuleOfAnotherPackage(RuleContract):
    rule = "fa-sparse"


def trained(results, *arguments):
    """The record of a run of one epoch."""
    assert main(["run", "--scale", "quick", "--set", "epochs=1", "--results", str(results), *arguments]) == 0
    (path,) = Store(results / "quick").paths()
    return json.loads(path.read_text())


def test_a_rule_trains(my_bench, tmp_path):
    record = trained(tmp_path, "--model", "mlp", "--rule", "fa-sparse", "--set", "rule_options.density=0.5")
    assert record["config"]["rule_options"] == {"density": 0.5}
    assert record["status"] == "ok" and record["data"]["name"] == "digits"
    assert record["final"]["accuracy"] > 50
    (plugin,) = record["source"]["plugins"]
    digest = hashlib.sha256((my_bench / "fa_sparse.py").read_bytes()).hexdigest()[:16]
    named = {"kind": "rule", "name": "fa-sparse", "distribution": "my_bench", "version": "1.0"}
    assert plugin == named | {"digest": digest} and shown(record["source"]).endswith(" my_bench 1.0")


def test_a_network_trains_as_the_yaml_beside_it_says(my_bench, tmp_path):
    record = trained(tmp_path, "--model", "shallow", "--rule", "fa-sparse", "--dataset", "stripes")
    assert (record["config"]["batch_size"], record["config"]["gamma"]) == (32, 0.62)
    assert [plugin["kind"] for plugin in record["source"]["plugins"]] == ["model", "rule", "dataset"]
    assert record["task"] == "shallow/1" and record["final"]["accuracy"] > 90


def test_an_experiment_finds_plug_ins(my_bench, tmp_path, capsys, monkeypatch):
    (tmp_path / "sparse.yaml").write_text(block("adding-an-experiment", "yaml"))
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path))
    assert main(["sweep", "sparse", "--scale", "quick", "--dry-run", "--results", str(tmp_path / "results")]) == 0
    assert "fa-sparse" in capsys.readouterr().out


def test_plug_ins_are_listed(my_bench, capsys):
    assert main(["list"]) == 0
    listed, warnings = capsys.readouterr()
    assert all(words in listed for words in ("fa-sparse", "shallow/1", "One hidden layer", "stripes")) and not warnings


FOREIGN = {
    "rule": (["--model", "mlp", "--rule", "fa-sparse"], "needs the rule 'fa-sparse', which is not installed"),
    "model": (["--model", "shallow", "--rule", "bp"], "needs the model 'shallow', which is not installed"),
    "dataset": (
        ["--model", "mlp", "--rule", "bp", "--dataset", "stripes"],
        "needs the dataset 'stripes', which is not installed",
    ),
}
PLAIN = "{title: Plain, model: mlp, scales: {quick: {seeds: 2, runs: [{rule: [bp, kp], epochs: 1}]}}}"


@pytest.mark.parametrize(("arguments", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_a_record_whose_plug_in_is_gone_is_named_and_stops_nothing(
    arguments, reason, my_bench, tmp_path, capsys, monkeypatch
):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/plain.yaml").write_text(PLAIN)
    (tmp_path / "experiments/strange.yaml").write_text(PLAIN.replace("model: mlp", "model: shallow"))
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path / "experiments"))
    results = tmp_path / "results"
    trained(results, *arguments)
    for config in experiment("plain").configs("quick")[:3]:
        run(config, Store(results / "quick"), "plain", "quick", "cpu")
    (path,) = Store(results / "quick").paths("run")
    for folder in ("plain", "strange"):
        (results / "quick/records" / folder).mkdir(exist_ok=True)
        shutil.copy(path, results / "quick/records" / folder)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(my_bench.parent)])
    capsys.readouterr()
    assert main(["verify", "--results", str(results), "--no-golden"]) == 1
    *lines, count = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("invalid") and reason in line for line in lines) == 3
    assert sum(line.startswith("missing") for line in lines) == 1
    assert any(line.startswith("plan      strange: unknown model 'shallow'") for line in lines)
    assert count == "records: 6, problems: 5"
    assert main(["sweep", "plain", "--scale", "quick", "--dry-run", "--results", str(results)]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"all +│ +│ +4 │ +3 │ +1 │", out) and "estimate: " in out
    assert err == f"warning: skipped: {results / 'quick/records/plain' / path.name}: {reason}\n"
    (tmp_path / "experiments/strange.yaml").unlink()
    assert results_of(experiment("plain"), "quick", results).recorded == 3


def test_golden_trajectories_are_of_built_in_rules_only(my_bench):
    assert "fa-sparse" in RULES.names()
    assert "fa-sparse" not in golden.configs("linear")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Installs a package of one module that is an entry point."""

    def install_one(group, name, package, text):
        install(tmp_path, package, {"plugin.py": text}, {group: [f"{name} = {package}.plugin"]})
        monkeypatch.syspath_prepend(tmp_path)
        for module in (package, f"{package}.plugin"):
            monkeypatch.delitem(sys.modules, module, raising=False)

    return install_one


def refused(capsys, *arguments):
    """The one line that a command with bad input leaves."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and not out
    return err


KINDS = {"rules": "bp", "models": "mlp", "datasets": "digits"}
BROKEN = {
    "import torhc": "plug-in broken.plugin cannot be imported: ModuleNotFoundError: No module named 'torhc'",
    "def": "plug-in broken.plugin cannot be imported: SyntaxError: ",
    "": "plug-in broken.plugin has no ",
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.items(), ids=["import", "syntax", "nothing offered"])
@pytest.mark.parametrize(("kind", "working"), KINDS.items(), ids=KINDS)
def test_a_broken_plug_in_is_left_out_and_named_once(kind, working, text, reason, plugin, capsys):
    plugin(f"bench.{kind}", "broken", "broken", text)
    assert main(["list", kind]) == main(["list", kind]) == 0
    listed, warnings = capsys.readouterr()
    assert working in listed and "broken" not in listed
    assert warnings.startswith(f"warning: skipped: {kind[:-1]} 'broken': {reason}") and warnings.count("\n") == 1
    values = {"model": "mlp", "rule": "bp", "dataset": "digits"} | {kind[:-1]: "broken"}
    options = [word for name, value in values.items() for word in (f"--{name}", value)]
    assert f"error: {kind[:-1]} 'broken': {reason}" in refused(capsys, "run", "--scale", "quick", *options)


def test_a_network_without_what_every_network_declares_is_left_out(plugin, capsys):
    text = "from bench.models.base import Network\nclass MODEL(Network):\n    def feedback_layers(self): return {}\n"
    plugin("bench.models", "bare", "bare", text)
    assert main(["list", "models"]) == 0
    assert "'bare': plug-in bare.plugin: its MODEL does not set version, output_module" in capsys.readouterr().err


def test_a_rule_that_cannot_be_made_and_a_dataset_without_sizes_are_left_out(plugin, capsys):
    rule = "from bench.rules.bp import Backpropagation\nclass RULE(Backpropagation):\n    def __init__(self): 1 / 0\n"
    data = "from bench.data.base import Dataset\nclass A(Dataset):\n    def read(self, folder): ...\nDATASET = A()\n"
    plugin("bench.rules", "bare", "barerule", rule)
    plugin("bench.datasets", "mine", "baredata", data)
    for kind, reason in (("rules", "cannot be used: ZeroDivisionError"), ("datasets", "does not set name, note")):
        assert main(["list", kind]) == 0
        assert reason in capsys.readouterr().err
    assert main(["data"]) == 0


@pytest.mark.parametrize(("kind", "name"), KINDS.items(), ids=KINDS)
def test_a_name_that_is_taken_is_refused(kind, name, plugin, capsys):
    plugin(f"bench.{kind}", name, "first", "")
    error = refused(capsys, "list", kind)
    assert error == f"error: two {kind} are called {name!r}: the built-in one and plug-in first.plugin\n"


def test_two_plug_ins_of_one_name_are_refused(plugin, capsys):
    for package in ("first", "second"):
        plugin("bench.rules", "mine", package, "")
    error = refused(capsys, "run", "--model", "mlp", "--rule", "bp", "--scale", "quick")
    assert "two rules are called 'mine'" in error and "first.plugin" in error and "second.plugin" in error


def test_a_network_without_its_yaml_is_refused(plugin, capsys):
    plugin("bench.models", "bare", "bare", block("adding-a-network", "python"))
    error = refused(capsys, "run", "--model", "bare", "--rule", "bp", "--scale", "quick")
    assert "bare/plugin.yaml: no such file" in error
