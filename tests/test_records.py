"""Records: whole or not there, and refused as soon as anything about them is not today's."""

import json
from dataclasses import asdict, replace
from functools import partial

import pytest

from bench.config import Config
from bench.errors import CannotWrite, UsageError
from bench.files import write_atomically
from bench.models.mlp import MLP
from bench.records.store import SCHEMA, InvalidRecord, Store, failed_record, read, record_of, seal, writable
from bench.rules.ldfa import LowDimensionalFeedback
from bench.training.loop import train

VERSION = LowDimensionalFeedback.version
CONFIG = Config(model="mlp", dataset="digits", rule="ldfa", rank="99", model_options={"width": 8}, batch_size=256)


@pytest.fixture(scope="module")
def record():
    return record_of(CONFIG, "all", "quick", "cpu", train(CONFIG))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def path(store, record):
    path = store.path("all", CONFIG)
    store.write(record, path)
    return path


def test_a_record_says_what_ran_and_what_came_out(record):
    assert record["status"] == "ok" and record["schema"] == SCHEMA
    assert record["task"] == f"mlp/{MLP.version}" and record["rule_version"] == VERSION
    assert record["config"] == asdict(CONFIG) and record["digest"] == CONFIG.digest
    assert record["rule"] == {"reads_weights": "no", "reads_targets": True}
    assert record["notes"] == [f"rank 99 of {label} capped at 8, its full rank" for label in ("B1", "B2", "B3")]
    assert len(record["first_losses"]) == 6 and set(record["final"]) == {"loss", "accuracy"}
    assert len(record["data"]["sha256"]["train"]) == 64
    forward = 64 * 8 + 8 * 8 * 2 + 8 * 10 + 3 * 8 + 10 + 6 * 8
    feedback = 8 * 8 * 2 * 2 + (8 + 10) * 8
    learning = forward + feedback - 2 * 8 * 8
    assert record["parameters"] == {"forward": forward, "feedback": feedback, "trainable": learning}
    # 2 x 256 operations a weight: forward, dW, and the error down by P and Q and the gradient of Q where it goes down.
    layers = 2 * (64 * 8 + 8 * 8 * 2 + 8 * 10) * 2 + 2 * (8 * 8 * 3 * 2 + 8 * 10 + 8 * 8 * 2)
    assert record["flops_step"] > 256 * layers
    forward = 256 * 2 * (8 * 8 * 2 + 8 * 10)
    flops = record["flops"]
    assert list(flops) == ["forward", "error_path", "weight_gradient", "feedback_update"]
    assert flops["forward"] == flops["weight_gradient"] == forward
    assert sum(flops.values()) + 256 * 2 * 64 * 8 * 2 == record["flops_step"]
    assert {part: sum(layer[part] for layer in record["flops_layers"].values()) for part in flops} == flops


def test_round_trip(store, path, record):
    assert read(path) == read(path, CONFIG) == json.loads(json.dumps(record | {"seal": seal(record)}))
    assert store.find(CONFIG, ["none", "all"]) == read(path)
    assert store.find(replace(CONFIG, seed=1), ["all"]) is None
    assert list(store.paths()) == list(store.paths("all")) == [path]
    assert list(store.paths("none")) == []


def test_the_record_of_a_failed_run(store):
    failed = failed_record(CONFIG, "all", "quick", "cpu", "ValueError: reason")
    store.write(failed, store.path("all", CONFIG))
    found = store.find(CONFIG, ["all"])
    assert found["status"] == "failed" and found["reason"] == "ValueError: reason"


def edit(path, change, sealed=False):
    """Changes the content of a record file, as a hand or another program would; `sealed` by one that seals."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content | {"seal": seal(content)} if sealed else content))
    return path


def cut_short(path):
    path.write_text(path.read_text()[:-20])
    return path


def emptied(path):
    path.write_text("")
    return path


def no_object(path):
    path.write_text("[]")
    return path


def better_accuracy(path):
    return edit(path, lambda record: record["final"].update(accuracy=99.9))


def lost_seal(path):
    return edit(path, lambda record: record.pop("seal"))


def renamed(path):
    return path.rename(path.with_name(replace(CONFIG, seed=1).slug + ".json"))


def other_seed(path):
    return edit(path, lambda record: record["config"].update(seed=1), sealed=True)


def stale(path):
    return edit(path, lambda record: record.update(task=f"mlp/{MLP.version - 1}"), sealed=True)


def stale_rule(path):
    """Of the time before rules had versions."""
    return edit(path, lambda record: record.pop("rule_version"), sealed=True)


def other_schema(path):
    return edit(path, lambda record: record.update(schema=SCHEMA + 1), sealed=True)


def unknown_setting(path):
    return edit(path, lambda record: record["config"].update(momentum=0.9), sealed=True)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_short, "is truncated or not JSON"),
        (emptied, "is truncated or not JSON"),
        (no_object, "is JSON but not an object"),
        (better_accuracy, "was edited: its seal does not match its content"),
        (lost_seal, "was edited"),
        (renamed, "contains a different configuration than its name says"),
        (other_seed, "contains a different configuration than its name says"),
        (stale, f"is stale: task mlp/{MLP.version - 1}, current mlp/{MLP.version}"),
        (stale_rule, f"is stale: rule ldfa/1, current ldfa/{VERSION}"),
        (other_schema, f"has schema {SCHEMA + 1}, not {SCHEMA}"),
        (unknown_setting, "unknown key 'momentum'"),
    ],
)
def test_a_damaged_record_is_refused_with_its_reason_and_does_not_count(store, path, damage, reason):
    damaged = damage(path)
    with pytest.raises(InvalidRecord) as error:
        read(damaged)
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert store.find(CONFIG, ["all"]) is None
    assert store.find(replace(CONFIG, seed=1), ["all"]) is None


def test_a_raised_version_makes_records_stale(store, path, monkeypatch):
    monkeypatch.setattr(MLP, "version", MLP.version + 1)
    with pytest.raises(InvalidRecord, match="is stale"):
        read(path)
    assert store.find(CONFIG, ["all"]) is None


def test_a_raised_version_of_a_rule_makes_its_records_stale_and_its_checkpoints_void(store, path, monkeypatch):
    """Those of no other rule, not even of one that inherits from it; a record without a version is of the first."""
    kp, derived = replace(CONFIG, rule="kp", rank=None), replace(CONFIG, rule="ldfa-direct")
    for config in (kp, derived):
        store.write(failed_record(config, "all", "quick", "cpu", "reason"), store.path("all", config))
    edit(store.path("all", kp), lambda record: record.pop("rule_version"), sealed=True)
    configs = [CONFIG, kp, derived]
    before = [store.checkpoint([config]) for config in configs]
    monkeypatch.setattr(LowDimensionalFeedback, "version", VERSION + 1)
    with pytest.raises(InvalidRecord, match=f"^is stale: rule ldfa/{VERSION}, current ldfa/{VERSION + 1}$"):
        read(path)
    assert [store.find(config, ["all"]) is None for config in configs] == [True, False, False]
    after = [store.checkpoint([config]) for config in configs]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]


def test_a_rule_inherits_no_version():
    assert VERSION > 1 and type("Derived", (LowDimensionalFeedback,), {}).version == 1


def test_a_record_is_asked_for_by_its_configuration(path):
    with pytest.raises(InvalidRecord, match="a different configuration"):
        read(path, replace(CONFIG, seed=1))


# Files


def write_half(file, content):
    file.write(content[: len(content) // 2])
    file.flush()
    raise OSError("no space left")


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "folder" / "file.json"
    with pytest.raises(CannotWrite, match="no space left"):
        write_atomically(path, partial(write_half, content=b"new content"))
    assert list(path.parent.iterdir()) == []
    write_atomically(path, lambda file: file.write(b"old"))
    with pytest.raises(CannotWrite, match="no space left"):
        write_atomically(path, partial(write_half, content=b"new content"))
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == b"old"


def test_temporary_files_are_no_records(store, path):
    (path.parent / f".{path.name}.x1y2.tmp").write_bytes(path.read_bytes())
    assert list(store.paths()) == [path]


def test_a_results_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "results"):
        with pytest.raises(UsageError, match=f"^--results: {folder} cannot be written"):
            writable(folder)
