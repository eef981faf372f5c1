"""Configurations: what parses, what a user is told when something does not, and the digest."""

from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from bench.config import Config, parse, read_yaml
from bench.errors import UsageError

CONFIG = Config(model="mlp", dataset="digits", rule="ldfa", rank="10")


@dataclass(frozen=True)
class Inner:
    size: int


@dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Literal["adam", "sgd"] = "adam"
    rate: float = 1.0
    flag: bool = False
    pair: tuple[float, ...] = ()
    names: list[str] = field(default_factory=list)
    table: dict[str, Inner] = field(default_factory=dict)
    bound: float | None = None


def test_values_take_the_types_of_the_fields():
    values = {"inner": {"size": 2}, "rate": 1, "pair": [1, 2.5], "table": {"a": {"size": 3}}, "bound": 4, "flag": True}
    parsed = parse(Outer, values, "file.yaml")
    assert parsed == Outer(Inner(2), rate=1.0, pair=(1.0, 2.5), table={"a": Inner(3)}, bound=4.0, flag=True)
    assert [type(x) for x in (parsed.rate, parsed.bound, *parsed.pair)] == [float] * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kinds": "adam"}, ["'kinds'", "did you mean 'kind'?"]),
        ({"inner": None}, ["inner", "size", "None"]),
        ({"inner": {}}, ["inner", "'size' is missing"]),
        ({"inner": {"size": 1.5}}, ["inner: size", "1.5", "int"]),
        ({"inner": {"size": True}}, ["inner: size", "True", "int"]),
        ({"inner": {"size": "3"}}, ["inner: size", "'3'", "int"]),
        ({"kind": "adan"}, ["kind", "'adan'", "adam, sgd"]),
        ({"kind": ["adam"]}, ["kind", "['adam']", "adam, sgd"]),
        ({"rate": "fast"}, ["rate", "'fast'", "float"]),
        ({"rate": True}, ["rate", "True", "float"]),
        ({"flag": 1}, ["flag", "1", "bool"]),
        ({"pair": 1.0}, ["pair", "1.0"]),
        ({"pair": [1.0, "x"]}, ["pair", "'x'", "float"]),
        ({"names": "x"}, ["names", "'x'", "list"]),
        ({"table": {"a": {"sizes": 1}}}, ["table.a", "'sizes'", "'size'"]),
        ({"bound": "x"}, ["bound", "'x'", "float | None"]),
    ],
)
def test_wrong_values_are_named_in_one_line(change, words):
    with pytest.raises(UsageError) as error:
        parse(Outer, {"inner": {"size": 1}} | change, "file.yaml")
    message = str(error.value)
    assert message.startswith("file.yaml: ") and "\n" not in message
    assert all(word in message for word in words), message


def test_a_list_is_no_mapping():
    with pytest.raises(UsageError, match=r"^file.yaml: expected keys size, found \[1\]$"):
        parse(Inner, [1], "file.yaml")


def test_yaml_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1,\nb: 2")
    with pytest.raises(UsageError, match=r"broken\.yaml: not YAML") as error:
        read_yaml(tmp_path / "broken.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *((name, (-1.0, float("nan"), float("inf"))) for name in ("lr", "weight_decay", "feedback_rate")),
        *((name, (-1,)) for name in ("batch_size", "measure_every", "test_every", "seed")),
        *((name, (0,)) for name in ("epochs", "log_every")),
        *((name, (0.0, float("nan"), float("inf"))) for name in ("gamma", "clip")),
    ],
)
def test_a_number_out_of_its_range(name, values):
    for value in values:
        with pytest.raises(UsageError, match=rf"^{name}: {value} is not allowed; expected: finite, [^\n]+$"):
            replace(CONFIG, **{name: value})
        with pytest.raises(UsageError, match=rf"^--set: {name}: {value} is not allowed"):
            parse(Config, {"model": "mlp", "dataset": "digits", "rule": "bp", name: value}, "--set")


CHANGES = [
    {"model": "linear"},
    {"dataset": "cifar10"},
    {"rule": "ldfa-q"},
    {"rank": "B1=10,B2=1/4"},
    {"rank": None},
    {"model_options": {"width": 64}},
    {"rule_options": {"output": "error"}},
    {"optimiser": "sgd"},
    {"lr": 2e-3},
    {"weight_decay": 1e-4},
    {"feedback_rate": 0.5},
    {"feedback_decay": 0.0},
    {"batch_size": 0},
    {"epochs": 2},
    {"epoch_examples": 1000},
    {"schedule": "cosine"},
    {"gamma": 0.9},
    {"warmup": 5},
    {"augment": ("flip",)},
    {"clip": 1.0},
    {"clip_gradients": 10.0},
    {"precision": "float64"},
    {"log_every": 2},
    {"measure_every": 1},
    {"test_every": 1},
    {"measure_dimension": True},
    {"split": "validation"},
    {"seed": 1},
]


def test_every_field_changes_digest_and_slug():
    assert {name for change in CHANGES for name in change} == set(Config.__dataclass_fields__)
    configs = [CONFIG, *(replace(CONFIG, **change) for change in CHANGES)]
    assert len({config.digest for config in configs}) == len({config.slug for config in configs}) == len(configs)
    assert not any(set("/=, ") & set(config.slug) for config in configs)


def test_the_digest_does_not_depend_on_the_order_of_options():
    one, other = ({"width": 64, "depth": 2}, {"depth": 2, "width": 64})
    assert replace(CONFIG, model_options=one).digest == replace(CONFIG, model_options=other).digest


def test_the_digest_does_not_change_with_the_code():
    """Records are found by it: this one was computed when the first records were made."""
    assert CONFIG.digest == "4f415841abefb650"
