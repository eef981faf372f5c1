"""The configuration of a run, validated, with a digest that identifies it."""

import copy
import hashlib
import json
import math
import re
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache
from itertools import chain, islice
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from bench.errors import LONGEST, UsageError, shown, unknown

T = TypeVar("T")

LEAST = dict.fromkeys(["lr", "weight_decay", "feedback_rate", "feedback_decay", "batch_size", "warmup", "seed"], 0)
LEAST |= {"epochs": 1, "epoch_examples": 0, "log_every": 1, "measure_every": 0, "test_every": 0}
POSITIVE = ("gamma", "clip", "clip_gradients")
UNMEASURED: dict[str, Any] = {"measure_every": 0, "test_every": 0, "measure_dimension": False}
"""Fields of `Config` with which a run only trains, and is tested at the end."""
LARGEST = 2**63
"""Upper limit (exclusive) for integers."""
DEEPEST, MOST = 20, 100_000
"""Limits for a YAML file: depth, and values per level."""
READABLE = 150
"""Length of a file name before the seed and digest."""


@dataclass(frozen=True)
class Config:
    """Everything that determines the numbers of a run. Raises `UsageError` for a number out of range."""

    model: str
    dataset: str
    rule: str
    rank: str | None = None
    """`10`, `full`, or `B1=10,B3=4` (other layers at full rank); None if the rule has no rank."""
    model_options: dict = field(default_factory=dict)
    rule_options: dict = field(default_factory=dict)
    optimiser: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    """Adam is the amsgrad variant with decay in the gradient; one optimiser updates weights and feedback."""
    lr: float = 1e-3
    weight_decay: float = 0.0
    feedback_rate: float = 1.0
    """Learning rate of the feedback, as a multiple of `lr`."""
    feedback_decay: float | None = None
    """Weight decay of the feedback; None uses that of the weights."""
    batch_size: int = 128
    """Examples per step; 0 is the whole training set."""
    epochs: int = 1
    epoch_examples: int = 0
    """Examples per epoch, drawn from the training set afresh for each epoch; 0 for all."""
    schedule: Literal["exponential", "cosine"] = "exponential"
    gamma: float = 1.0
    """Exponential schedule: factor on the learning rates after each epoch."""
    warmup: int = 0
    """Cosine schedule: epochs of rising learning rates before it."""
    augment: tuple[str, ...] = ()
    clip: float | None = None
    """Bound on each entry of the errors sent down."""
    clip_gradients: float | None = None
    """Bound on each entry of the parameters' gradients."""
    precision: Literal["float32", "float64", "bfloat16", "tf32"] = "float32"
    """tf32: tensors are float32, and a GPU multiplies matrices and convolutions in TF32; a CPU uses float32. bfloat16:
    tensors are float32, and the forward pass runs under autocast.
    """
    log_every: int = 1
    """Epochs between entries of the history."""
    measure_every: int = 0
    """Epochs between measurements of the layers, only in entries of the history; 0 for none."""
    test_every: int = 0
    """Epochs between tests before the final one, only in entries of the history; 0 for none."""
    measure_dimension: bool = False
    """Whether to record the dimension of each hidden layer's activity at the end of training."""
    split: Literal["test", "validation"] = "test"
    """What the run is judged on: the test split, or a tenth held out of the training split."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if (value := getattr(self, name)) is not None and not least <= value < math.inf:
                raise UsageError(f"{name}: {value!r} is not allowed; expected: finite, {least} or more")
        for name in POSITIVE:
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"{name}: {value!r} is not allowed; expected: finite, above 0")
        for name in ("model_options", "rule_options"):
            for key, value in getattr(self, name).items():
                if not isinstance(key, str) or not _is_plain(value):
                    raise UsageError(
                        f"{name}: {shown(key)}: {shown(value)} is not allowed; expected: a name, and a finite number, "
                        "true, false, a string, null, or a list of these"
                    )

    @property
    def without_numbers(self) -> "Config":
        """The run without its seed and rates: runs that share it differ in numbers alone, not in what is computed."""
        return replace(self, seed=0, lr=0.0, weight_decay=0.0, feedback_rate=0.0)

    @property
    def digest(self) -> str:
        """SHA-256, 16 hexadecimal digits, of the fields that differ from their defaults, in canonical JSON.

        Adding a field therefore keeps the digests of all recorded runs; a default, once recorded, must not change.
        """
        identity = {name: value for name, default in _defaults() if (value := getattr(self, name)) != default}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def slug(self) -> str:
        """A readable file name, unique to this configuration, of letters, digits and `_.-` only."""
        rank = [] if self.rank is None else ["r" + self.rank.translate(str.maketrans("=,/", "-_-"))]
        options = [f"{key}{value}" for key, value in self.model_options.items()]
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join([self.rule, *rank, *options]))
        return f"{name[:READABLE]}-s{self.seed}-{self.digest[:8]}"

    @property
    def setting(self) -> str:
        """Rule, rank and options in words: `ldfa r=10 width=64`."""
        rank = [] if self.rank is None else [self.rank if "=" in self.rank else f"r={self.rank}"]
        options = [f"{key}={value}" for key, value in (self.model_options | self.rule_options).items()]
        return " ".join([self.rule, *rank, *options])


@cache
def _defaults() -> list[tuple[str, Any]]:
    """The fields of `Config` and their defaults, MISSING if there is none."""
    return [(f.name, f.default if f.default_factory is MISSING else f.default_factory()) for f in fields(Config)]


def _is_plain(value: Any, lists: int = 2) -> bool:
    """Whether JSON preserves `value`: a number, a string, null, or lists of these, nested up to `lists` deep."""
    if isinstance(value, list | tuple):
        return lists > 0 and all(_is_plain(item, lists - 1) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < LARGEST)


def stream(seed: int, purpose: str) -> int:
    """The seed of one stream of random numbers: `weights`, `feedback`, `epoch 3`. No two streams are the same."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:8], "big") >> 1


def parse(cls: type[T], values: Any, where: str) -> T:
    """An instance of the dataclass `cls` from a mapping read from YAML or JSON.

    Raises `UsageError`, naming `where`, for an unknown or missing key, a value of the wrong type, or a value that `cls`
    refuses.
    """
    types, required = _fields(cls)  # type: ignore[arg-type]  # mypy takes `type[T]` for unhashable
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected keys {', '.join(types)}, found {shown(values)}")
    for key in values:
        if key not in types:
            raise UsageError(f"{where}: {unknown('key', key, types)}")
    for name in required:
        if name not in values:
            raise UsageError(f"{where}: key {name!r} is missing")
    converted = {key: _value(types[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return cls(**converted)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


@cache
def _fields(cls: type) -> tuple[dict[str, Any], list[str]]:
    """The type of each field, and the fields without a default."""
    hints = get_type_hints(cls)
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return {f.name: hints[f.name] for f in fields(cls)}, required


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` converted to `kind`, if nothing is lost: integers become floats, lists become tuples."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise UsageError(f"{where}: {shown(value)} is not allowed; expected: below 2^63")
    if kind is Any or type(value) is kind:
        return value
    if isinstance(kind, type) and is_dataclass(kind):
        return parse(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and isinstance(value, kind) and not isinstance(value, bool):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin in (Union, UnionType):
        for option in arguments:
            if isinstance(option, type) and is_dataclass(option) and isinstance(value, dict):
                return parse(option, value, where)
            try:
                return _value(option, value, where)
            except UsageError:
                continue
    elif origin is Literal and value in arguments:
        return value
    elif origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(arguments[0], item, where) for item in value)
    elif origin is list and isinstance(value, list):
        return [_value(arguments[0], item, where) for item in value]
    elif origin is dict and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    allowed = ", ".join(map(str, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise UsageError(f"{where}: {shown(value)} is not allowed; expected: {allowed}")


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises `UsageError` if it cannot be read, or as `parse_yaml` does."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    return copy.deepcopy(_parsed(text, str(path)))


@cache
def _parsed(text: str, where: str) -> Any:
    return parse_yaml(text, where)


def parse_yaml(text: str, where: str) -> Any:
    """The content of a YAML text. Raises `UsageError`, naming `where`, for invalid or too large a text."""
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # PyYAML raises errors of all kinds, for example for `2001-99-99` and `!!bool x`
        raise UsageError(f"{where}: not YAML: {' '.join(str(error).split())[:LONGEST]}") from None
    level = [content]
    for _ in range(DEEPEST):
        inside = (value.values() if isinstance(value, dict) else value for value in level if not _is_scalar(value))
        level = list(islice(chain.from_iterable(inside), MOST + 1))
        if len(level) > MOST:
            raise UsageError(f"{where}: too large; expected: at most {MOST:,} values per level")
        if not level:
            return content
    raise UsageError(f"{where}: nested too deeply; expected: at most {DEEPEST} levels")


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, dict | list | tuple | set)
