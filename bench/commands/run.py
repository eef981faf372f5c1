"""`bench run`: one configuration, one record, one line."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from bench.commands.show import duration, interrupted, outcome
from bench.config import Config, parse, parse_yaml
from bench.errors import UsageError, cut, shown
from bench.files import is_writable_name
from bench.records.source import source
from bench.records.store import Record, Store, writable
from bench.sweeps.experiments import SINGLE
from bench.sweeps.groups import run
from bench.sweeps.missing import check, is_final
from bench.sweeps.protocols import configure
from bench.training.length import steps
from bench.training.process import Terminated, pausing, train_alone

OWN_OPTION = ("model", "rule", "rank", "dataset", "seed")


def train_one(
    model: str,
    rule: str,
    rank: str | None,
    dataset: str | None,
    seed: int,
    scale: str,
    *,
    overrides: Sequence[str],
    results: Path,
    device: str,
    save_weights: Path | None,
    force: bool,
) -> int:
    """Trains and records a run, unless it has a record, and prints its summary."""
    protocol = configure(model, rule, scale, dataset=dataset, results=results, rank=rank, seed=seed)
    config = override(protocol, overrides)
    store = Store(results / scale)
    record = None if force or save_weights else _recorded(config, store)
    if record is not None:
        typer.echo("already recorded, so not trained again (--force retrains)", err=True)
    else:
        if save_weights is not None and save_weights.suffix == ".json":
            raise UsageError(f"--save-weights {save_weights}: could be a record; expected: a name such as weights.pt")
        if save_weights is not None and not _writable(save_weights):
            raise UsageError(f"--save-weights {save_weights}: cannot be written; expected: a file in a writable folder")
        check([config])
        writable(store.path(SINGLE, config).parent)
        store.check_names(SINGLE, [config])
        record = _train(config, store, scale, device, save_weights)
    path = store.path(record["experiment"], config)
    time = duration(record.get("seconds", 0.0))
    typer.echo(f"{config.rule}  rank {config.rank or '-'}  {outcome(record)}  {time}  {path}")
    return int(record["status"] == "failed")


def override(config: Config, assignments: Sequence[str]) -> Config:
    """`config` with fields set by `KEY=VALUE` or `KEY.PART=VALUE`, values in YAML.

    Raises `UsageError` for an unknown key, a value of the wrong type, or a key that has its own option.
    """
    values = asdict(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        key, dot, part = path.partition(".")
        written = f"--set {cut(assignment)}"
        if not equals:
            raise UsageError(f"{written}: not allowed; expected: KEY=VALUE")
        if key in OWN_OPTION:
            raise UsageError(f"{written}: {key} has its own option; expected: --{key}")
        if not dot:
            values[key] = _value(text, written)
        elif isinstance(values.get(key), dict):
            values[key][part] = _value(text, written)
        else:
            parts = ", ".join(name for name, value in values.items() if isinstance(value, dict))
            raise UsageError(f"{written}: {shown(key)} has no parts; expected: {parts}")
    return parse(Config, values, "--set")


def _value(text: str, where: str) -> Any:
    value = parse_yaml(text, where)
    try:
        return float(value) if isinstance(value, str) else value  # YAML 1.1 reads 1e-3 as a string
    except ValueError:
        return value


def _recorded(config: Config, store: Store) -> Record | None:
    folders = [SINGLE, *sorted(path.name for path in store.folder.glob("records/*"))]
    record = store.find(config, folders)
    return record if is_final(record) else None


def _train(config: Config, store: Store, scale: str, device: str, weights: Path | None) -> Record:
    train_alone()
    source()

    def progress(entry: dict[str, Any]) -> None:
        accuracy = f"  training accuracy {entry['accuracy']:.2f} %" if "accuracy" in entry else ""
        typer.echo(f"epoch {entry['epoch']}/{config.epochs}  training loss {entry['loss']:.4g}{accuracy}", err=True)

    typer.echo(f"{config.slug}: {config.epochs} epochs, {steps(config):,} steps", err=True)
    try:
        with pausing():
            record = run(config, store, SINGLE, scale, device, progress=progress, weights=weights)
        if record["status"] == "paused":
            raise Terminated
    except KeyboardInterrupt as error:
        interrupted(error, 0)
    return record


def _writable(path: Path) -> bool:
    """Whether a regular file may be written to `path`; links are followed."""
    return is_writable_name(path) and os.access(os.path.dirname(os.path.realpath(path)), os.W_OK)
