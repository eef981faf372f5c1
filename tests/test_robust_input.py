"""Bad input is one line and exit status 2: values, names, experiment files, plug-ins, outputs that are closed."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from test_plugins import install

from bench.cli import main
from bench.config import Config
from bench.data import DATASETS
from bench.errors import UsageError
from bench.models import MODELS
from bench.records.store import Store
from bench.rules import RULES
from bench.sweeps.experiments import experiment
from bench.training.augment import augmentation

CONFIG = Config(model="mlp", dataset="digits", rule="ldfa", rank="2", model_options={"width": 8})
RUN = ["run", "--model", "mlp", "--rule", "ldfa", "--scale", "quick", "--set", "epochs=1"]
DEEP = "[" * 1000 + "]" * 1000
LAUGHS = (
    "[" + "&a0 [x,x,x,x,x,x,x,x,x]" + "".join(f", &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)) + "]"
)


def is_one_line(err, *words):
    assert err.startswith("error: ") and err.count("\n") == 1 and err[:-1].isprintable() and len(err) < 2000, err[:2000]
    assert not [word for word in words if word not in err], err
    return True


# Values

VALUES = {
    "a date": "2001-01-01",
    "no date": "2001-99-99",
    "a tag": "!!bool x",
    "a tag of Python": "!!python/object/apply:os.system [id]",
    "no timestamp": "!!timestamp x",
    "no integer": '!!int ""',
    "a set": "!!set {a, b}",
    "bytes": "!!binary aGk=",
    "deep": DEEP,
    "deep, as YAML can read it": "[" * 50 + "]" * 50,
    "itself": "&a [*a]",
    "laughs": LAUGHS,
    "400 zeros": "1" + 400 * "0",
    "5,000 digits": 5000 * "1",
    "5,000 digits in base 16": "0x" + 5000 * "f",
    "nan": ".nan",
    "infinite": "-.inf",
    "a mapping": "{1: 2}",
    "a mapping of mappings": "{a: {b: {c: 1}}}",
    "empty": "",
    "control characters": "\x00\x1b[2J",
    "no YAML": "[1,",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize(
    "key", ["lr", "epochs", "model_options.width", "rule_options.output", "augment", "model_options"]
)
def test_a_value_that_is_none(key, value, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, "--set", f"{key}={value}"]) == 2
    assert is_one_line(capsys.readouterr().err)
    assert not os.listdir(tmp_path)


WRONG = {
    "width 0": (["--set", "model_options.width=0"], "a layer has no weights"),
    "channels 0": (["--model", "retina", "--set", "model_options.channels=0"], "a layer has no weights"),
    "width below 0": (["--set", "model_options.width=-1"], "mlp"),
    "width beyond memory": (["--set", "model_options.width=1000000000000"], "mlp"),
    "dropout nan": (["--model", "cnn", "--set", "model_options.dropout=.nan"], "nan is not allowed"),
    "batch": (["--set", "batch_size=10000000000000000000000"], "below 2^63"),
    "seed": (["--seed", "1" + 400 * "0"], "below 2^63"),
    "long seed": (["--seed", 5000 * "1"], "--seed"),
    "rank": (["--rank", 5000 * "1"], "expected: a whole number from 1"),
    "rank in other digits": (["--rank", "٣"], "expected: a whole number from 1"),
    "fraction": (["--rank", "0." + 5000 * "1"], "expected: a whole number from 1"),
    "layer's rank": (["--rank", "B1=" + 5000 * "9"], "expected: a whole number from 1"),
    "classes": (["--dataset", "digits:" + 5000 * "1"], "digits:1"),
    "group": (["--dataset", "digits:5@" + 5000 * "1"], "digits:5"),
    "dataset": (["--dataset", 5000 * "x"], "unknown dataset"),
    "rule": (["--rule", "../../../evil\x1b[2J"], "unknown rule"),
    "results": (["--results", 300 * "x"], "File name too long"),
    "weights": (["--save-weights", 300 * "x"], "File name too long"),
    "rotation": (["--set", "augment=[rotate:nan]"], "rotate:nan"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_run_that_cannot_be(wrong, tmp_path, capsys, monkeypatch):
    arguments, *words = wrong
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, *arguments]) == 2
    assert is_one_line(capsys.readouterr().err, *words)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("degrees", ["nan", "-nan", "inf", "-inf", "1e999"])
def test_a_rotation_is_by_finite_degrees(degrees):
    with pytest.raises(UsageError, match="is not allowed"):
        augmentation(f"rotate:{degrees}")


def test_a_gpu_is_called_cuda(capsys):
    assert main([*RUN, "--device", "gpu"]) == 2
    assert is_one_line(capsys.readouterr().err, "unknown device 'gpu' (did you mean 'cuda'?)")


def test_names_of_files_are_bounded_and_plain(tmp_path):
    """A long option is cut, the digest tells it from others; what is no letter is replaced."""
    configs = [replace(CONFIG, rule_options={}, model_options={"width": 8, name: 1}) for name in (300 * "x", 301 * "x")]
    configs += [replace(CONFIG, rule="../../evil\n", model_options={"a/b": "../c d", "e": "ü"})]
    slugs = [config.slug for config in configs]
    assert len(set(slugs)) == 3 and max(map(len, slugs)) < 190
    assert all(slug.isascii() and not set(slug) & set("/\n ,=") for slug in slugs)
    path = Store(tmp_path).path("run", configs[-1])
    assert path.resolve().parent == (tmp_path / "records/run").resolve()


def test_a_budget_is_a_number(tmp_path, capsys, monkeypatch):
    write(tmp_path, monkeypatch, "trial")
    assert main(["sweep", "trial", "--scale", "quick", "--budget", "nan"]) == 2
    assert is_one_line(capsys.readouterr().err, "--budget")


# Experiment files

TRIAL = {"title": "A trial", "model": "mlp", "scales": {"quick": {"seeds": 1, "runs": [{"rule": "bp"}]}}}


def write(folder, monkeypatch, name, **grid):
    (folder / "experiments").mkdir(exist_ok=True)
    content = TRIAL | {"scales": {"quick": TRIAL["scales"]["quick"] | grid}}
    path = folder / "experiments" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(folder / "experiments"))
    monkeypatch.chdir(folder)
    return path


def as_folder(path):
    path.unlink()
    path.mkdir()


def dangling(path):
    path.unlink()
    path.symlink_to("nowhere")


FILES = {
    "not UTF-8": (lambda path: path.write_bytes(path.read_bytes().replace(b"A trial", b"A \xff")), "not UTF-8"),
    "a folder": (as_folder, "cannot be read"),
    "a dangling link": (dangling, "no such file"),
    "a list": (lambda path: path.write_text("[1]"), "expected keys"),
    "empty": (lambda path: path.write_text(""), "expected keys"),
    "deep": (lambda path: path.write_text(DEEP), "not YAML"),
    "itself": (lambda path: path.write_text("&a {title: *a}"), "nested too deep"),
    "laughs": (lambda path: path.write_text("title: x\nmodel: mlp\nscales: " + LAUGHS), "too large"),
    "control characters": (lambda path: path.write_text("title: \x07"), "not YAML"),
    "a number as key": (lambda path: path.write_text("1: 2"), "unknown key 1"),
}
GRIDS = {
    "no seeds": ({"seeds": 0}, "seeds: 0"),
    "seeds below 0": ({"seeds": -1}, "seeds: -1"),
    "too many seeds": ({"seeds": 1_000_000_000}, "seeds: 1000000000"),
    "no value": ({"runs": [{"rule": "bp", "lr": []}]}, "lr has no value"),
    "too many runs": (
        {"runs": [{"rule": "bp", **{k: [1] * 1000 for k in ("lr", "epochs", "clip")}}]},
        "10,000 settings",
    ),
    "a date": ({"runs": [{"rule": "bp", "model_options": {"width": yaml.safe_load("2001-01-01")}}]}, "width"),
}


@pytest.mark.parametrize("command", ["--dry-run", "--workers=1"])
@pytest.mark.parametrize(("damage", "words"), FILES.values(), ids=FILES)
def test_an_experiment_file_that_is_none(damage, words, command, tmp_path, capsys, monkeypatch):
    damage(write(tmp_path, monkeypatch, "trial"))
    assert main(["sweep", "trial", "--scale", "quick", command]) == 2
    assert is_one_line(capsys.readouterr().err, "trial.yaml", words)
    assert os.listdir(tmp_path) == ["experiments"]


@pytest.mark.parametrize(("grid", "words"), GRIDS.values(), ids=GRIDS)
def test_an_experiment_that_cannot_be(grid, words, tmp_path, capsys, monkeypatch):
    write(tmp_path, monkeypatch, "trial", **grid)
    assert main(["sweep", "trial", "--scale", "quick", "--dry-run"]) == 2
    assert is_one_line(capsys.readouterr().err, words)


def test_an_anchor_is_still_read(tmp_path, monkeypatch):
    path = write(tmp_path, monkeypatch, "trial")
    path.write_text("title: x\nmodel: mlp\nscales:\n  quick: &a {seeds: 1, runs: [{rule: bp}]}\n  gpu: *a\n")
    found = experiment("trial")
    assert found.scales["quick"] == found.scales["gpu"]


# Plug-ins


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Installs a rule, a network or a dataset of another package, a name and a text."""

    for registry in (RULES, MODELS, DATASETS):
        monkeypatch.setattr(registry, "_warnings", set())

    def plugin(kind, name, text):
        install(tmp_path, "attacker", {"plugin.py": text}, {f"bench.{kind}s": [f"{name} = attacker.plugin"]})
        monkeypatch.syspath_prepend(tmp_path)
        for module in ("attacker", "attacker.plugin"):
            monkeypatch.delitem(sys.modules, module, raising=False)

    return plugin


PLUGINS = {
    "exits": ("mine", "import sys; sys.exit()", "SystemExit"),
    "exits with a text": ("mine", "raise SystemExit('all is well\\n\\x1b[2J')", "SystemExit"),
    "offers None": ("mine", "{KIND} = None", "has no {KIND}"),
    "offers a text": ("mine", "{KIND} = 'bp'", "has no {KIND}"),
    "offers another class": ("mine", "{KIND} = dict", "has no {KIND}"),
    "leads outside": ("../../../evil", "", "has a name that is not allowed"),
    "steers the terminal": ("evil\x1b[2J", "", "has a name that is not allowed"),
    "is too long": (65 * "x", "", "has a name that is not allowed"),
}


@pytest.mark.parametrize(("name", "text", "words"), PLUGINS.values(), ids=PLUGINS)
@pytest.mark.parametrize(("kind", "working"), [("rule", "ldfa-track"), ("model", "retina"), ("dataset", "cifar100")])
def test_a_plug_in_that_misbehaves_is_named_and_left_out(kind, working, name, text, words, plugin, capsys):
    plugin(kind, name, text.replace("{KIND}", kind.upper()))
    assert main(["list", f"{kind}s"]) == 0
    out, err = capsys.readouterr()
    assert working in out and "evil" not in out
    assert err.startswith(f"warning: skipped: {kind} '") and words.replace("{KIND}", kind.upper()) in err
    assert err.count("\n") == 1 and err[:-1].isprintable()


def test_an_abstract_rule_is_left_out(plugin, capsys):
    plugin("rule", "mine", "from bench.rules.base import Rule\nclass Mine(Rule): pass\nRULE = Mine")
    assert main(["list", "rules"]) == 0
    assert "has no RULE that is a subclass of Rule" in capsys.readouterr().err


def test_a_rule_called_by_a_path_writes_nothing(plugin, tmp_path, capsys, monkeypatch):
    plugin("rule", "../../../evil", "from bench.rules.bp import RULE")
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    before = sorted(tmp_path.rglob("*"))
    assert main([*RUN[:3], "--rule", "../../../evil", "--scale", "quick", "--set", "epochs=1"]) == 2
    assert is_one_line(capsys.readouterr().err, "has a name that is not allowed")
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in str(path)] == before


# Outputs


def bench(command, **options):
    shell = f'exec "{sys.executable}" -m bench {command}'
    pipes = {"shell": True, "stderr": subprocess.PIPE, "text": True, "executable": "/bin/bash"}
    return subprocess.run(shell, **pipes, **options, check=False)


@pytest.mark.parametrize("where", [">&-", "> /dev/full"])
def test_an_output_that_takes_nothing_is_one_line(where):
    process = bench(f"list experiments {where}")
    assert process.returncode == 2
    assert is_one_line(process.stderr, "standard output")


def test_a_pipe_that_nobody_reads_ends_quietly():
    """As other commands do, such as in `bench list | head -1`."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "bench", "list", "experiments"]
    process = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert process.returncode == 1 and process.stderr == ""


def test_records_that_are_a_file_are_not_sound(tmp_path, capsys):
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick/records").write_text("")
    assert main(["verify", "--no-golden", "--results", str(tmp_path)]) == 2
    assert is_one_line(capsys.readouterr().err, "no records found")
    (tmp_path / "cpu/records").mkdir(parents=True)
    assert main(["verify", "--no-golden", "--results", str(tmp_path)]) == 1
    assert f"invalid   {tmp_path}/quick/records: is not a folder" in capsys.readouterr().out
