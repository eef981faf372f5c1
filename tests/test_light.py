"""Light commands: what they tell of rules, networks and data they read without importing torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.commands.verify import verify
from bench.data import DATASETS, _cache, _checksums
from bench.declared import Undeclared, declared
from bench.models import MODELS
from bench.rules import RULES

ROOT = Path(__file__).parents[1]
RUN = """
import sys
from bench.cli import main
status = main(sys.argv[1:])
assert not (heavy := {"torch", "scipy", "pandas", "sklearn"} & sys.modules.keys()), heavy
sys.exit(status)
"""


@pytest.mark.parametrize(
    "command",
    [
        "list experiments",
        "list datasets",
        "data",
        "sweep linear --scale cpu --dry-run",
        "sweep cnn-rank --scale quick --dry-run",
    ],
)
def test_a_light_command_imports_no_heavy_package(command):
    process = subprocess.run([sys.executable, "-c", RUN, *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("rule", RULES.built_in())
def test_what_the_source_of_a_rule_says_is_what_its_class_has(rule):
    for attribute, inherited in (("version", False), ("ranked", True), ("own_feedback_rate", True)):
        found = declared(f"bench.rules.{rule.replace('-', '_')}", "RULE", attribute, inherited)
        assert found == getattr(RULES.get(rule), attribute), attribute


@pytest.mark.parametrize("model", MODELS.built_in())
def test_what_the_source_of_a_network_says_is_what_its_class_has(model):
    for attribute in ("version", "regression"):
        assert declared(f"bench.models.{model}", "MODEL", attribute) == getattr(MODELS.get(model), attribute)


@pytest.mark.parametrize("body", ["ranked = bool(1)", "@property\n    def ranked(self): ...", "other = 1"])
def test_what_the_source_alone_does_not_tell_is_asked_of_the_class(body, tmp_path, monkeypatch):
    (tmp_path / "undeclared.py").write_text(f"class Rule:\n    {body}\n\nRULE = Rule\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Undeclared):
        declared("undeclared", "RULE", "ranked")
    declared.cache_clear()


INHERITANCE = """
class First:
    version: int = 1

class Second(First):
    version = 2

class Third(Second):
    pass

RULE = Third
"""


@pytest.mark.parametrize(("inherited", "version"), [(True, 2), (False, 1)])
def test_an_attribute_that_is_not_inherited_is_the_own_one_or_that_of_the_base_of_all(
    inherited, version, tmp_path, monkeypatch
):
    (tmp_path / "inheritance.py").write_text(INHERITANCE)
    monkeypatch.syspath_prepend(tmp_path)
    assert declared("inheritance", "RULE", "version", inherited) == version


def test_checksums_are_kept_for_the_code_and_the_libraries_that_made_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    made = []

    class Made:
        sha256 = {"train": "a", "test": "b"}

    def checksums_of(seed):
        return _checksums.checksums(DATASETS.get("linear-teacher"), "linear-teacher:8", seed)

    monkeypatch.setattr(_checksums, "load_once", lambda name, seed: made.append(seed) or Made)
    assert [checksums_of(seed) for seed in (0, 1, 0)] == [Made.sha256] * 3 and made == [0, 1]
    for damaged in ("{", "[]"):
        (tmp_path / _cache.CHECKSUMS).write_text(damaged)
        checksums_of(0)
    assert made == [0, 1, 0, 0]
    monkeypatch.setattr(_checksums, "version", lambda name: "another")
    checksums_of(0)
    monkeypatch.setattr(_checksums, "file_digest", lambda path: "other code")
    checksums_of(0)
    assert made == [0, 1, 0, 0, 0, 0]
    _cache.clear()
    assert not list(tmp_path.iterdir())


def test_verify_reads_each_record_once(made_up, tmp_path, monkeypatch, capsys):
    from bench.records import store
    from bench.sweeps.experiments import experiment

    for config in experiment("linear").configs("quick"):
        made_up(config, None, "quick", "linear")
    files = len(list(store.Store(tmp_path / "quick").paths()))
    read = []
    content = store._content
    monkeypatch.setattr(store, "_content", lambda path: read.append(path) or content(path))
    verify(tmp_path, golden=False)
    assert len(read) == len(set(read)) == files and f"records: {files}" in capsys.readouterr().out
