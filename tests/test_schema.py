"""What a record may say: whatever is not so is refused with its reason, sealed or not, and counted by no command."""

import json
import math
import os
from dataclasses import replace

import pytest

from bench.cli import main
from bench.config import Config
from bench.records.store import InvalidRecord, Store, read, record_of, seal
from bench.rules import RULES
from bench.sweeps.experiments import experiment
from bench.sweeps.groups import run
from bench.training.loop import train

OK = Config(
    model="mlp", dataset="digits", rule="ldfa", rank="4", model_options={"width": 8}, batch_size=256,
    epochs=5, log_every=2, test_every=2, measure_every=4,
)  # fmt: skip
DIVERGED = replace(OK, rule="bp", rank=None, optimiser="sgd", lr=1e30, measure_every=0, test_every=0, log_every=1)
LINEAR = Config(model="linear", dataset="linear-teacher:2", rule="bp", batch_size=0, epochs=3, precision="float64")
CONFIGS = {"ok": OK, "diverged": DIVERGED, "linear": LINEAR}
GONE = object()


@pytest.fixture(scope="module")
def made():
    """The records of three short runs, as JSON has them."""
    records = {name: record_of(c, "tiny", "quick", "cpu", train(c)) for name, c in CONFIGS.items()}
    return {name: json.dumps(record) for name, record in records.items()}


@pytest.fixture
def write(made, tmp_path):
    """Writes one of the records, changed and sealed again; its path. A field is called `history.0.loss`."""

    def written(of, changes):
        record = json.loads(made[of])
        for field, value in changes.items():
            *parents, key = [int(word) if word.isdigit() else word for word in field.split(".")]
            place = record
            for parent in parents:
                place = place[parent]
            if value is GONE:
                del place[key]
            else:
                place[key] = value
        path = Store(tmp_path / "results/quick").path("tiny", CONFIGS[of])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record | {"seal": record.get("seal", seal(record))}))
        return path

    return written


@pytest.mark.parametrize("of", CONFIGS)
def test_what_a_run_wrote_is_read(of, write, made):
    record = read(write(of, {}), CONFIGS[of])
    assert record["status"] == ("diverged" if of == "diverged" else "ok")
    assert "NaN" not in made[of] and "Infinity" not in made[of]
    assert [entry["epoch"] for entry in record["history"]] == {
        "ok": [0, 2, 4, 5], "diverged": [1], "linear": [0, 1, 2, 3]
    }[of]  # fmt: skip


def test_older_records_and_later_fields(write):
    older = dict.fromkeys(("trained", "population", "flops", "flops_layers"), GONE)
    assert "flops" not in read(write("ok", older | {"source": "14c6af68b2f1-dirty"}))
    assert read(write("ok", {"dimension": {"B1": {"rank": 3.5}}}))["rule_version"] == RULES.get("ldfa").version
    assert read(write("ok", {"dimension": None}))["dimension"] is None


HALF = "accuracy: 50.1 is not allowed; expected: the share of a whole number of {} images"
WRONG = {
    "status unknown": ("ok", {"status": "fine"}, "status: 'fine'"),
    "status of a run in progress": ("ok", {"status": "paused"}, "status: 'paused'"),
    "status of another kind": ("ok", {"status": "failed"}, "key 'data'"),
    "a key of a later version": ("ok", {"colour": "red"}, "unknown key 'colour'"),
    "a key within": ("ok", {"device.cores": 2}, "unknown key 'cores'"),
    "accuracy too high": ("ok", {"final.accuracy": 1e9}, "final: accuracy: 1000000000.0"),
    "accuracy below 0": ("ok", {"final.accuracy": -0.2}, "final: accuracy: -0.2"),
    "accuracy in words": ("ok", {"final.accuracy": "high"}, "final: accuracy: 'high'"),
    "accuracy of half an image": ("ok", {"final.accuracy": 50.1}, f"final: {HALF.format(500)}"),
    "accuracy of a test": ("ok", {"history.1.test.accuracy": 50.1}, f"epoch 2: test: {HALF.format(500)}"),
    "accuracy of training": ("ok", {"history.1.accuracy": 50.1}, f"epoch 2: {HALF.format(2594)}"),
    "accuracy of a regression": ("linear", {"final.accuracy": 50.0}, "final: {"),
    "final missing": ("ok", {"final": GONE}, "key 'final' is missing"),
    "final empty": ("ok", {"final": {}}, "final: {}"),
    "final of a diverged run": ("diverged", {"final": {"loss": 1.0}}, "final: {'loss': 1.0}"),
    "final loss lost": ("ok", {"final.loss": None}, "final: loss: None"),
    "loss lost in a run that is ok": ("ok", {"history.1.loss": None}, "epoch 2: loss: None"),
    "loss below 0": ("ok", {"history.2.loss": -1.0}, "epoch 4: loss: -1.0"),
    "loss in words": ("ok", {"history.2.loss": "low"}, "history: epoch 4"),
    "loss too large for a float": ("ok", {"history.2.loss": 10**400}, "epoch 4: loss"),
    "history missing": ("ok", {"history": GONE}, "key 'history' is missing"),
    "history empty": ("ok", {"history": []}, "history: []"),
    "history of numbers": ("ok", {"history": [1, 2, 3]}, "history: [1, 2, 3]"),
    "history too short": ("ok", {"history.3": GONE}, "history: ends in epoch 4 of 5"),
    "history of a diverged run that ends early": ("diverged", {"history.0.loss": 1.0}, "history: ends in epoch 1 of 5"),
    "history with a hole": ("ok", {"history.1": GONE}, "history: epoch: 4 is not allowed; expected: 2"),
    "history without its start": ("ok", {"history.0": GONE}, "history: epoch: 2 is not allowed; expected: 0"),
    "epoch that is no number": ("ok", {"history.1.epoch": True}, "history: epoch: True"),
    "entry without its test": ("ok", {"history.1.test": GONE}, "history: epoch 2: ['accuracy', 'epoch', 'loss']"),
    "entry with a test": ("ok", {"history.3.test": {"loss": 1.0, "accuracy": 50.0}}, "history: epoch 5: ["),
    "entry without its layers": ("ok", {"history.2.layers": GONE}, "history: epoch 4"),
    "layers that are none": ("ok", {"history.2.layers": 5}, "epoch 4: layers: 5"),
    "measure in words": ("ok", {"history.2.layers.B1.error_angle": "right"}, "history: epoch 4"),
    "measure of the network missing": ("linear", {"history.2.mode_strengths": GONE}, "history: epoch 2"),
    "measure of the network in words": ("linear", {"history.2.mode_strengths": ["strong"]}, "history: epoch 2"),
    "too few first losses": ("ok", {"first_losses.3": GONE}, "first_losses: has 29 steps, expected: 30"),
    "no first loss": ("ok", {"first_losses": []}, "first_losses: has 0 steps"),
    "first loss in words": ("ok", {"first_losses.0": "2.3"}, "first_losses: loss: '2.3'"),
    "first loss lost": ("ok", {"first_losses.0": None}, "first_losses: loss: None"),
    "regression that starts at nothing": ("linear", {"first_losses.0": 0.0}, "first_losses: 0.0"),
    "data of another name": ("ok", {"data.name": "digits:5"}, "data: 'digits:5' is not allowed; expected: digits"),
    "data without a name": ("ok", {"data": {}}, "data: key 'name' is missing"),
    "checksum that is no text": ("ok", {"data.sha256.train": 5}, "data: sha256.train: 5"),
    "device in a word": ("ok", {"device": "cpu"}, "device"),
    "device of no type": ("ok", {"device.type": "tpu"}, "device: type: 'tpu'"),
    "no threads": ("ok", {"device.threads": 0}, "device: threads: 0"),
    "seconds below 0": ("ok", {"seconds": -1.0}, "seconds: -1.0"),
    "seconds in words": ("ok", {"seconds": "soon"}, "seconds: 'soon'"),
    "seconds too many": ("ok", {"seconds": 10**400}, "expected: below 2^63"),
    "count below 0": ("ok", {"flops.forward": -1}, "flops: forward: -1"),
    "count too large": ("ok", {"flops_step": 2**70}, "flops_step"),
    "count with a fraction": ("ok", {"parameters.feedback": 0.5}, "parameters: feedback: 0.5"),
    "flops that are none": ("ok", {"flops": None}, "flops: expected keys"),
    "versions without torch": ("ok", {"versions.torch": GONE}, "versions: key 'torch' is missing"),
    "source of no kind": ("ok", {"source": 5}, "source: 5"),
    "source incomplete": ("ok", {"source": {"commit": None}}, "source"),
    "rule version in words": ("ok", {"rule_version": "one"}, "rule_version: 'one'"),
    "locality unknown": ("ok", {"rule.reads_weights": "maybe"}, "reads_weights: 'maybe'"),
    "notes that are no list": ("ok", {"notes": "none"}, "notes: 'none'"),
    "configuration in a word": ("ok", {"config": "mlp"}, "config: 'mlp'"),
    "configuration out of range": ("ok", {"config.lr": -1.0}, "lr: -1.0"),
    "text that moves the cursor": ("ok", {"status": "\x1b[2J\nok"}, r"status: '\x1b[2J\nok'"),
    "key that moves the cursor": ("ok", {"data.sha256.\x1b[2J\n": 5}, r"sha256.\x1b[2J\n: 5"),
}  # fmt: skip


@pytest.mark.parametrize(("of", "changes", "reason"), WRONG.values(), ids=WRONG)
def test_a_record_that_says_something_else_is_refused_and_named(of, changes, reason, write):
    path = write(of, changes)
    with pytest.raises(InvalidRecord) as error:
        read(path)
    said = str(error.value)
    assert reason in said and said.isprintable() and len(said) < 350
    assert Store(path.parents[2]).find(CONFIGS[of], ["tiny"]) is None


def leaves(value, name=""):
    """Names and values of all that is in JSON, objects and lists aside."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


@pytest.mark.parametrize("of", CONFIGS)
def test_no_value_may_be_of_another_type_and_no_field_missing(of, made, write):
    """Of every number, word and truth value but those that a network or a measure says."""
    record = json.loads(made[of])
    kept = [(name, value) for name, value in leaves(record) if not name.startswith("config.")]
    for name, value in kept:
        for other in (5 if isinstance(value, str | bool) else "x", ["x"], {"x": "y"}, *[True] * (value is not False)):
            if other is not value:
                with pytest.raises(InvalidRecord):
                    read(write(of, {name: other}))
    optional = {"trained", "population", "flops", "flops_layers", "rule_version", "dimension"}
    for key in record.keys() - optional:
        with pytest.raises(InvalidRecord):
            read(write(of, {key: GONE}))


# Files that are no records


def nested(path):
    path.write_text('{"a": ' * 100_000)


def nested_and_whole(path):
    path.write_text('{"a": ' * 500 + "1" + "}" * 500)


def not_finite(path):
    record = json.loads(path.read_text())
    record["seconds"] = math.nan
    path.write_text(json.dumps(record))


def too_large_a_number(path):
    path.write_text(path.read_text().replace('"seconds": ', '"seconds": 1e999, "s": '))


def utf16(path):
    path.write_bytes(path.read_text().encode("utf-16"))


def without_keys(path):
    path.write_text(json.dumps({"seal": seal({})}))


def folder(path):
    path.unlink()
    path.mkdir()


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def dangling(path):
    path.unlink()
    path.symlink_to("nowhere")


def loop(path):
    path.unlink()
    path.symlink_to(path.name)


def unreadable(path):
    path.chmod(0)


FILES = {
    nested: "is nested too deeply",
    nested_and_whole: "",
    not_finite: "contains NaN or an infinite number",
    too_large_a_number: "contains NaN or an infinite number",
    utf16: "is truncated or not JSON",
    without_keys: "has schema None",
    folder: "cannot be read: Is a directory",
    fifo: "is not a regular file",
    dangling: "cannot be read: No such file or directory",
    loop: "cannot be read: Too many levels of symbolic links",
    unreadable: "cannot be read: Permission denied",
}
EVERYTHING_OPEN = os.geteuid() == 0
"""Whether permissions hold nobody back, as they do not root."""


@pytest.mark.parametrize(("damage", "reason"), FILES.items(), ids=[damage.__name__ for damage in FILES])
def test_a_file_that_is_no_record_is_refused(damage, reason, write):
    if damage is unreadable and EVERYTHING_OPEN:
        pytest.skip("root reads everything")
    path = write("ok", {})
    damage(path)
    with pytest.raises(InvalidRecord) as error:
        read(path)
    assert reason in str(error.value) and str(error.value).isprintable()


def test_a_huge_file_is_refused_unread(write, monkeypatch):
    path = write("ok", {})
    monkeypatch.setattr("bench.records.store.LARGEST_FILE", path.stat().st_size)
    read(path)
    monkeypatch.setattr("bench.records.store.LARGEST_FILE", path.stat().st_size - 1)
    with pytest.raises(InvalidRecord, match="is larger than"):
        read(path)


TINY = """
title: Two rules
model: mlp
scales:
  quick:
    seeds: 1
    runs:
      - {rule: [bp, kp]}
"""


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An experiment's two records, among files of its folder that are none; the names of these with the reasons."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/tiny.yaml").write_text(TINY)
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path / "experiments"))
    results = tmp_path / "results"
    for config in experiment("tiny").configs("quick"):
        run(config, Store(results / "quick"), "tiny", "quick", "cpu")
    whole = next(Store(results / "quick").paths())
    odd = {}
    for damage, reason in FILES.items():
        if not (damage is unreadable and EVERYTHING_OPEN):
            path = whole.with_name(f"bp-{damage.__name__}.json")
            path.write_bytes(whole.read_bytes())
            damage(path)
            odd[path] = reason
    record = json.loads(whole.read_text())
    record["final"]["accuracy"] = 1e9
    forged = whole.with_name("bp-forged.json")
    Store(results).write(record, forged)
    return results, odd | {forged: "a different configuration than its name says"}


def test_odd_files_are_named_and_skipped_by_every_command(results, tmp_path, capsys, monkeypatch):
    folder, odd = results
    capsys.readouterr()

    def says(status, *arguments):
        assert main(list(arguments)) == status
        out, err = capsys.readouterr()
        return out.splitlines(), err.splitlines()

    lines, _ = says(1, "verify", "--results", str(folder), "--no-golden")
    for path, reason in odd.items():
        assert any(line.startswith(f"invalid   {path}: ") and reason in line for line in lines)
    assert lines[-1] == f"records: {len(odd) + 2}, problems: {len(odd)}"
    for command in (["sweep", "tiny", "--scale", "quick", "--dry-run"], ["compare", "kp", "bp", "--task", "mlp"]):
        lines, warnings = says(0, *command, "--results", str(folder))
        assert lines and all(line.startswith("warning: skipped: ") for line in warnings)
        assert len(warnings) == len(set(odd.values())) and "is not a regular file" in str(warnings)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").rename(tmp_path / "made")
    lines, _ = says(1, "import", str(tmp_path / "made"))
    assert lines[-1] == f"records   imported: 2, already here: none, refused: {len(odd)}"
    assert sum(line.startswith("refused   ") for line in lines) == len(odd)
