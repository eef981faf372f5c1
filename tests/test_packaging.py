"""What is installed, where it is found, and what is said of what is not."""

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import bench
from bench.errors import EXTRAS, UsageError, not_installed
from bench.sweeps.experiments import experiment, names
from bench.training import process

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {"PIL": "pillow", "markdown_it": "markdown-it-py", "sklearn": "scikit-learn"}
"""Of packages that are not called as their distribution."""


def test_the_version_is_that_of_the_project():
    assert bench.__version__ == PROJECT["version"] and "__version__" in bench.__all__


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_package_is_named_with_the_extra_that_has_it(extra):
    required = [re.split(r"[<>=]", each)[0] for each in PROJECT["optional-dependencies"][extra]]
    for package in EXTRAS[extra]:
        assert DISTRIBUTIONS.get(package, package) in required
        said = str(not_installed(ModuleNotFoundError(name=f"{package}.part")))
        assert said.endswith(f"not installed: pip install 'low-dimensional-feedback-bench[{extra}]'")


def test_all_is_every_extra():
    (everything,) = PROJECT["optional-dependencies"]["all"]
    extras = everything.partition("[")[2].rstrip("]").split(",")
    assert {*extras, "all"} == PROJECT["optional-dependencies"].keys()


def test_hooks_have_the_versions_of_the_constraints():
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    needed = {each for hook in hooks for each in hook["additional_dependencies"] if each.startswith("ruff")}
    assert needed and needed <= set(pinned)


def test_own_folders_come_before_the_shipped_experiments(tmp_path, monkeypatch):
    for folder, title in (("first", "First"), ("second", "Second")):
        (tmp_path / folder).mkdir()
        text = f"{{title: {title}, model: linear, scales: {{quick: {{seeds: 1, runs: [{{rule: bp}}]}}}}}}"
        (tmp_path / folder / "linear.yaml").write_text(text)
        (tmp_path / folder / f"{folder}.yaml").write_text(text)
    shipped = names()
    monkeypatch.setenv("BENCH_EXPERIMENTS", os.pathsep.join(str(tmp_path / name) for name in ("first", "second")))
    assert set(names()) == {*shipped, "first", "second"}
    assert [experiment(name).title for name in ("linear", "second")] == ["First", "Second"]
    assert experiment("mlp-direct").model == "mlp"
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path / "third"))
    with pytest.raises(UsageError, match=r"^BENCH_EXPERIMENTS: .*third: no such folder$"):
        names()


def test_cores_and_memory_are_told_on_macos(monkeypatch):
    peak = process.peak_memory("cpu")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert process.cores() == os.cpu_count()
    assert process.peak_memory("cpu") == pytest.approx(peak / 1024, rel=0.2)
