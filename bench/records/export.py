"""Records as a dataset: one Parquet file per scale, and a dataset card that describes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import bench
from bench.config import UNMEASURED, Config, parse
from bench.errors import UsageError
from bench.files import write_atomically, write_text
from bench.records.source import shown
from bench.records.store import SCHEMA, Record

if TYPE_CHECKING:
    from pyarrow import Schema

CARD = """\
---
license: cc-by-4.0
pretty_name: Low-dimensional error feedback, records of training runs
tags: [learning-rules, feedback-alignment, benchmark]
configs:
- config_name: default
  data_files:
{files}
---

# Records of training runs

Each row is one training run of the benchmark of learning rules that replicates "Training Large Neural Networks With
Low-Dimensional Error Feedback" (arXiv:2502.20580). Each split is a scale: networks and schedules differ between scales.

```python
from datasets import load_dataset

runs = load_dataset("PATH OF THIS FOLDER", split="{first}").to_pandas()
runs = runs.query("status == 'ok' and judged_on == 'test'")
runs.groupby(["task", "dataset", "setting", "setting_digest"])["accuracy"].agg(["mean", "count"])
```

Runs with the same `setting_digest` differ in their seed alone; `setting` is a short name for it. A run that diverged or
failed has no final numbers; the benchmark counts it as chance. Rows whose `judged_on` is `validation` are tuning
trials, not results.

| split | runs | tasks | rules |
| --- | --- | --- | --- |
{splits}

## Columns

| column | type | description |
| --- | --- | --- |
{columns}

## Versions

Benchmark {benchmark}, record schema {schema}. Compare only rows with the same `task`, `rule_version`, scale and
`dataset`.

## Licence and citation

CC-BY-4.0. Cite the paper, the benchmark by its version, and a number by the seals of its rows: SHA-256 of the seals,
sorted, one per line. The benchmark's leaderboard shows its first 16 digits as `records`.
"""


class Column(NamedTuple):
    """A column: its Arrow type, its description, and how to get its value from a record."""

    type: str
    what: str
    value: Callable[[Record], Any]


def _config(name: str) -> Callable[[Record], Any]:
    return lambda record: record["config"][name]


def _at(*keys: str) -> Callable[[Record], Any]:
    """The value under nested keys of a record; None if one is missing."""

    def value(record: Record) -> Any:
        found: Any = record
        for key in keys:
            if found is None:
                return None
            found = found.get(key)
        return found

    return value


COLUMNS = {
    "experiment": Column("string", "experiment it was run for; other experiments may share it", _at("experiment")),
    "task": Column("string", "network and task version", _at("task")),
    "dataset": Column("string", "name of the dataset", _config("dataset")),
    "rule": Column("string", "learning rule", _config("rule")),
    "rule_version": Column("int64", "version of the rule", lambda record: record.get("rule_version", 1)),
    "rank": Column("string", "rank of the feedback, for all layers or per layer; null without one", _config("rank")),
    "setting": Column("string", "rule, rank and options of rule and network", lambda record: _parsed(record).setting),
    "setting_digest": Column(
        "string", "identifies the configuration without its seed and measurements", lambda record: _setting(record)
    ),
    "seed": Column("int64", "seed of data order, augmentation and initial weights", _config("seed")),
    "status": Column("string", "ok, diverged or failed", _at("status")),
    "judged_on": Column(
        "string", "test, or validation for a trial", lambda record: record["config"].get("split", "test")
    ),
    "accuracy": Column("double", "final accuracy, percent; null for regression", _at("final", "accuracy")),
    "loss": Column("double", "final loss, on the split in `judged_on`", _at("final", "loss")),
    "seconds": Column("double", "training time", _at("seconds")),
    "device": Column("string", "name of the processor", _at("device", "name")),
    "flops_step": Column("int64", "floating-point operations in the matrix products of one step", _at("flops_step")),
    "feedback_parameters": Column("int64", "entries of the feedback tensors", _at("parameters", "feedback")),
    "peak_memory_bytes": Column("int64", "peak memory", _at("peak_memory_bytes")),
    "reads_weights": Column(
        "string", "whether the rule reads the weights: no, sign or yes", _at("rule", "reads_weights")
    ),
    "reads_targets": Column("bool", "whether the feedback learns from the targets", _at("rule", "reads_targets")),
    "epochs": Column("list<int64>", "epochs of the next three columns", lambda record: _history(record, "epoch")),
    "train_loss": Column("list<double>", "training loss", lambda record: _history(record, "loss")),
    "train_accuracy": Column("list<double>", "training accuracy, percent", lambda r: _history(r, "accuracy")),
    "test_accuracy": Column(
        "list<double>",
        "accuracy on the split in `judged_on`, percent; the final one is `accuracy`",
        lambda r: _history(r, "test", "accuracy"),
    ),
    "first_losses": Column("list<double>", "losses of the first steps", _at("first_losses")),
    "source": Column("string", "code that ran", lambda record: shown(record["source"])),
    "config_digest": Column("string", "identifies the configuration, seed included", _at("digest")),
    "seal": Column("string", "SHA-256 of the record without its seal", _at("seal")),
    "record": Column("string", "the whole record, as JSON", json.dumps),
}


def _history(record: Record, *keys: str) -> list[Any]:
    return [_at(*keys)(entry) for entry in record.get("history", [])]


def _parsed(record: Record) -> Config:
    return parse(Config, record["config"], "configuration")


def _setting(record: Record) -> str:
    return replace(_parsed(record), seed=0, **UNMEASURED).digest


def write_dataset(folder: Path, records: Mapping[str, Sequence[Record]]) -> None:
    """Writes `folder`/README.md and `folder`/data/SCALE.parquet from the records of each scale.

    Raises `UsageError` if `folder` is not empty.
    """
    import pyarrow.parquet

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is not empty; expected: a folder that is empty or does not exist")
    for scale, of_scale in records.items():
        rows = [{name: column.value(record) for name, column in COLUMNS.items()} for record in of_scale]
        table = pyarrow.Table.from_pylist(rows, schema=_schema())
        write = partial(pyarrow.parquet.write_table, table, compression="zstd")
        write_atomically(folder / "data" / f"{scale}.parquet", write)
    write_text(folder / "README.md", _card(records))


def _schema() -> "Schema":
    import pyarrow

    def type_of(name: str) -> pyarrow.DataType:
        inner = name.removeprefix("list<").removesuffix(">")
        return pyarrow.list_(pyarrow.type_for_alias(inner)) if inner != name else pyarrow.type_for_alias(name)

    return pyarrow.schema([(name, type_of(column.type)) for name, column in COLUMNS.items()])


def _card(records: Mapping[str, Sequence[Record]]) -> str:
    def listed(found: Sequence[Record], name: str) -> str:
        return ", ".join(sorted({COLUMNS[name].value(record) for record in found}))

    return CARD.format(
        files="\n".join(f"  - {{split: {scale}, path: data/{scale}.parquet}}" for scale in records),
        first=next(iter(records)),
        splits="\n".join(
            f"| {scale} | {len(found)} | {listed(found, 'task')} | {listed(found, 'rule')} |"
            for scale, found in records.items()
        ),
        columns="\n".join(f"| `{name}` | `{column.type}` | {column.what} |" for name, column in COLUMNS.items()),
        benchmark=bench.__version__,
        schema=SCHEMA,
    )
