"""Records: one JSON file per run, written completely or not at all, and sealed so that edits are detected.

A record is valid if its schema, the digest of its configuration and the versions of its task and rule are current;
`bench verify` also compares the checksum of its data. Which code produced it does not matter, because the golden
trajectories check the code.
"""

import hashlib
import json
import math
import os
import platform
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import Config, parse
from bench.errors import UsageError
from bench.files import is_writable_name, write_text
from bench.models import MODELS
from bench.records.consistency import check_numbers
from bench.records.schema import check_fields
from bench.records.source import source_of, used
from bench.rules import RULES
from bench.training.process import peak_memory, processor

if TYPE_CHECKING:
    from bench.training.outcome import Outcome

SCHEMA = 1
Record = dict[str, Any]

LARGEST_FILE = 64 << 20
"""Largest size of a record, in bytes."""
LONGEST_REASON = 300


class InvalidRecord(Exception):
    """The file is not a record, or the record no longer counts; the one-line message says why."""

    def __init__(self, reason: str) -> None:
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in reason[:LONGEST_REASON])
        super().__init__(shown + "..." * (len(reason) > LONGEST_REASON))


def task_of(model: str) -> str:
    """The task that results belong to, with its version: only results of the same task can be compared."""
    return f"{model}/{MODELS.declared(model, 'version')}"


def rule_of(rule: str) -> str:
    """The rule that results belong to, with its version."""
    return f"{rule}/{RULES.declared(rule, 'version', inherited=False)}"


def seal(record: Record) -> str:
    """SHA-256 of a record's content without its seal. Raises `ValueError` for a number that is not finite."""
    content = {key: value for key, value in record.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def record_of(config: Config, experiment: str, scale: str, device: str, outcome: "Outcome") -> Record:
    """The record of a run that ended, `ok` or `diverged`."""
    from bench.training.costs import first_batch, flops_by_layer, flops_of_step, parameters_of, total

    learner, peak_bytes = outcome.learner, peak_memory(device)
    batch = first_batch(config, outcome.data)
    by_layer = flops_by_layer(learner, *batch)
    return _common(config, experiment, scale, device) | {
        "status": outcome.status,
        "data": {"name": outcome.data.name, "sha256": outcome.data.sha256},
        "rule": {"reads_weights": learner.rule.reads_weights, "reads_targets": learner.rule.reads_targets},
        "notes": learner.notes,
        "first_losses": _finite(outcome.first_losses),
        "history": _finite(outcome.history),
        "final": outcome.final,
        "trained": _finite(outcome.trained),
        "seconds": outcome.seconds,
        "population": outcome.population,
        "parameters": parameters_of(learner),
        "flops_step": flops_of_step(config, learner, *batch),
        "flops": total(by_layer)._asdict(),
        "flops_layers": {label: flops._asdict() for label, flops in by_layer.items()},
        "peak_memory_bytes": peak_bytes,
        **({"dimension": outcome.dimension} if outcome.dimension else {}),
    }


def failed_record(config: Config, experiment: str, scale: str, device: str, reason: str) -> Record:
    """The record of a run that ended with an error."""
    return _common(config, experiment, scale, device) | {"status": "failed", "reason": reason}


def _common(config: Config, experiment: str, scale: str, device: str) -> Record:
    import torch

    on_gpu = device.startswith("cuda")
    return {
        "schema": SCHEMA,
        "task": task_of(config.model),
        "rule_version": RULES.get(config.rule).version,
        "scale": scale,
        "experiment": experiment,
        "digest": config.digest,
        "config": asdict(config),
        "source": asdict(source_of(config)),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy")}},
        "device": {
            "type": "cuda" if on_gpu else "cpu",
            "name": torch.cuda.get_device_name() if on_gpu else processor(),
            "threads": torch.get_num_threads(),
        },
    }


class Store:
    """The records of one scale: `<folder>/records/<experiment>/<slug>.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, experiment: str, config: Config) -> Path:
        return self.folder / "records" / experiment / f"{config.slug}.json"

    def checkpoint(self, configs: Sequence[Config]) -> Path:
        """The checkpoint of a run, or of the runs of one program; the path depends on task and rule versions."""
        digests = [config.digest for config in configs]
        name = digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
        versions = f"{task_of(configs[0].model)}-{rule_of(configs[0].rule)}".replace("/", "-")
        return self.folder / "checkpoints" / f"{versions}-{name}.pt"

    def check_names(self, experiment: str, configs: Iterable[Config]) -> None:
        """Raises `UsageError` if something other than a file, such as a folder, has the name of a planned record."""
        if taken := [path for config in configs if not is_writable_name(path := self.path(experiment, config))]:
            more = f" and {len(taken) - 1} more" if taken[1:] else ""
            raise UsageError(f"{taken[0]}{more}: not a regular file, but a record would be written there; move it away")

    def write(self, record: Record, path: Path) -> None:
        """Seals a record and writes it atomically."""
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (record | {"seal": seal(record)}).items()]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        write_text(path, text)

    def find(self, config: Config, experiments: Sequence[str]) -> Record | None:
        """The valid record of a configuration, from the first of `experiments` in which it ended; else a failed one."""
        failed = None
        for experiment in experiments:
            try:
                record = read(self.path(experiment, config), config)
            except InvalidRecord:
                continue
            if record["status"] != "failed":
                return record
            failed = failed or record
        return failed

    def paths(self, experiment: str = "*") -> Iterator[Path]:
        """All record files of one experiment, or of all, in order."""
        yield from sorted(self.folder.glob(f"records/{experiment if experiment == '*' else escape(experiment)}/*.json"))


def read(path: Path, config: Config | None = None) -> Record:
    """The record in a file, if it is valid and, if `config` is given, belongs to it. Otherwise raises `InvalidRecord`.

    The result can be trusted: its fields follow `bench.records.schema`, its numbers are possible for its run, and its
    rule, network and dataset are installed.
    """
    try:
        record = _content(path)
        _check(record, lambda found: path.stem == found.slug and config in (None, found))
    except RecursionError:
        raise InvalidRecord("is nested too deeply") from None
    except (UsageError, OverflowError) as error:
        raise InvalidRecord(str(error)) from None
    return record


def check_new(record: Record) -> None:
    """Raises an error for a record that would not be valid once it is written, such as one that is not JSON."""
    _check(json.loads(json.dumps(record | {"seal": seal(record)})), lambda found: True)


def _check(record: Record, is_named: Callable[[Config], bool]) -> None:
    """Checks the content of a record, but not its seal; `is_named` says whether its name is that of a configuration."""
    if record.get("schema") != SCHEMA:
        raise InvalidRecord(f"has schema {record.get('schema')!r}, not {SCHEMA}")
    check_fields(record)
    found = parse(Config, record["config"], "configuration")
    for registry, name in used(found).items():
        if name not in registry.names():
            raise InvalidRecord(f"needs the {registry.kind} {name!r}, which is not installed")
        registry.check(name)
    if not is_named(found) or record["digest"] != found.digest:
        raise InvalidRecord("contains a different configuration than its name says")
    task, rule = task_of(found.model), rule_of(found.rule)
    if record["task"] != task:
        raise InvalidRecord(f"is stale: task {record['task']}, current {task}")
    if (recorded := f"{found.rule}/{record.get('rule_version', 1)}") != rule:
        raise InvalidRecord(f"is stale: rule {recorded}, current {rule}")
    check_numbers(record, found)


def read_all(paths: Iterable[Path], refused: dict[Path, str]) -> Iterator[tuple[Path, Record]]:
    """The valid records among files; the reasons for the others are added to `refused`."""
    for path in paths:
        try:
            yield path, read(path)
        except InvalidRecord as error:
            refused[path] = str(error)


def _content(path: Path) -> Record:
    """The content of a record's file, with its seal checked."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidRecord("is not a regular file")
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InvalidRecord(f"cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise InvalidRecord(f"is larger than {LARGEST_FILE >> 20} MiB")
    try:
        record = json.loads(content.decode())
    except ValueError:
        raise InvalidRecord("is truncated or not JSON") from None
    if not isinstance(record, dict):
        raise InvalidRecord("is JSON but not an object")
    try:
        sound = record.get("seal") == seal(record)
    except ValueError:
        raise InvalidRecord("contains NaN or an infinite number, which JSON does not have") from None
    if not sound:
        raise InvalidRecord("was edited: its seal does not match its content")
    return record


def _at_once(path: str, flags: int) -> int:
    """Opens a file; does not wait for the other end of a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK)


def _finite(value: Any) -> Any:
    """`value` with None in place of each number that is not finite, as JSON requires."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def writable(folder: Path) -> None:
    """Creates a results folder. Raises `UsageError` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK | os.X_OK) else "permission denied"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise UsageError(f"--results: {folder} cannot be written ({reason}); expected: a writable folder")
