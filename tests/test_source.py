"""Which code a record names: its own, by content, and its own repository's commit, dirty where code differs alone."""

import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

import bench
from bench.config import Config
from bench.records.source import Source, code_in, shown, source, source_of

FILES = {
    "bench/__init__.py": "",
    "bench/rules/bp.py": "RULE = 1\n",
    "bench/rules.py": "",
    "bench/sweeps/protocols/mlp.yaml": "cpu: {}\n",
    "bench/records/golden/mlp.json": "{}",
    "results/cpu/records/tiny/a.json": "{}",
    ".gitignore": "scratch*\n__pycache__\n",
}


def git(folder, *arguments):
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def written(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def committed(folder, files):
    for name, text in files.items():
        written(folder, name, text)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "All")


@pytest.fixture
def repository(tmp_path):
    committed(tmp_path / "repository", FILES)
    return tmp_path / "repository"


def test_clean_code_is_its_commit(repository):
    found = code_in(repository / "bench")
    assert found.commit == git(repository, "rev-parse", "HEAD")[:12] and len(found.digest) == 16
    assert not found.dirty and found.plugins == () and str(found) == found.commit


@pytest.mark.parametrize(
    "name",
    ["results/cpu/records/tiny/a.json", "results/cpu/records/tiny/b.json", "replication/new.py", "README.md",
     "bench/records/golden/mlp.json", "bench/__pycache__/bp.cpython-311.pyc"],
)  # fmt: skip
def test_what_is_no_code_leaves_it_clean(name, repository):
    before = code_in(repository / "bench")
    written(repository, name, "changed")
    assert code_in(repository / "bench") == before


@pytest.mark.parametrize(
    "name",
    [
        "bench/rules/bp.py",
        "bench/sweeps/protocols/mlp.yaml",
        "bench/rules/untracked.py",
        "bench/rules/scratch_ignored.py",
    ],
)
@pytest.mark.parametrize("staged", [False, True])
def test_code_that_differs_is_dirty_and_has_another_digest(name, staged, repository):
    before = code_in(repository / "bench")
    written(repository, name, "changed = True\n")
    if staged and "ignored" not in name:
        git(repository, "add", name)
    found = code_in(repository / "bench")
    assert found.dirty and found.commit == before.commit and found.digest != before.digest
    assert str(found) == f"{before.commit}+"


def test_a_deleted_module_is_dirty(repository):
    before = code_in(repository / "bench")
    (repository / "bench/rules/bp.py").unlink()
    assert code_in(repository / "bench").dirty and code_in(repository / "bench").digest != before.digest


@pytest.mark.parametrize("tracked", [False, True], ids=["ignored there", "tracked there"])
def test_a_repository_that_encloses_the_package_is_not_its_own(tracked, repository, tmp_path):
    installed = tmp_path / "project/venv/site-packages/bench"
    shutil.copytree(repository / "bench", installed)
    committed(tmp_path / "project", {"main.py": ""} | ({} if tracked else {".gitignore": "venv\n"}))
    found = code_in(installed)
    assert (found.commit, found.dirty) == (None, False)
    assert found.digest == code_in(repository / "bench").digest == str(found)


def test_without_git_and_in_a_hook_of_another_repository(repository, tmp_path, monkeypatch):
    here = code_in(repository / "bench")
    committed(tmp_path / "other", {"a": "a"})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    assert code_in(repository / "bench") == here
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_in(repository / "bench") == Source(here.digest, None, False)


def test_the_digest_is_what_sha256sum_gives(repository):
    listed = 'find . -name "*.py" -o -name "*.yaml" | sed "s|^./||" | LC_ALL=C sort | xargs sha256sum | sha256sum'
    sum_of_sums = subprocess.run(listed, shell=True, cwd=repository / "bench", capture_output=True, text=True).stdout
    assert sum_of_sums[:16] == code_in(repository / "bench").digest


def test_git_is_asked_once_a_process(monkeypatch, tmp_path):
    config = Config(model="mlp", dataset="digits:5", rule="bp")
    expected = code_in(Path(bench.__file__).parent)
    assert source() == expected
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_of(config) == expected and os.environ["PATH"] == str(tmp_path)


def test_a_source_in_a_word():
    found = {"digest": "d" * 16, "commit": None, "dirty": False, "plugins": []}
    plugin = {"kind": "rule", "name": "mine", "distribution": "my_bench", "version": "1.0", "digest": "e" * 16}
    assert shown(found) == "d" * 16
    assert shown(found | {"commit": "c" * 12, "dirty": True, "plugins": [plugin]}) == f"{'c' * 12}+ my_bench 1.0"
    assert shown("14c6af68b2f1-dirty") == "14c6af68b2f1-dirty"
    assert shown(asdict(source())) == str(source())
