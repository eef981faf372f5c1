"""Imports records made on another machine: reads them, checks them, copies them and chooses settings from trials."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.config import Config, parse
from bench.data import resolve
from bench.errors import UsageError
from bench.files import write_bytes
from bench.records.provenance import differs
from bench.records.replay import disagreement
from bench.records.store import InvalidRecord, Record, Store, read
from bench.sweeps.archives import BadArchive, extract
from bench.sweeps.experiments import tuning_of
from bench.sweeps.missing import is_final
from bench.sweeps.protocols import SCALES, searches
from bench.sweeps.sharing import Claims
from bench.sweeps.tune import ROUNDS, choice, choose, finder, trials

ALLOWED = "expected: a folder with SCALE/records, or a .tar, .tar.gz or .zip of one"
UNREADABLE = (
    *(BadArchive, OSError, EOFError, ValueError, RuntimeError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""Exceptions that reading an archive may raise."""


class Misfit(Exception):
    """The record is refused; the message says why."""


@dataclass(frozen=True)
class Incoming:
    """A record to import, and its destination."""

    path: Path
    record: Record
    config: Config
    store: Store
    experiment: str

    @property
    def target(self) -> Path:
        return self.store.path(self.experiment, self.config)


@dataclass
class Checked:
    """The result of the check: records that may be imported, records already here, and refused ones with the reason."""

    fit: list[Incoming] = field(default_factory=list)
    here: list[Incoming] = field(default_factory=list)
    refused: list[tuple[Path, str]] = field(default_factory=list)


class Tuned(NamedTuple):
    """The result of a rule's trials: `problem` is empty if settings were chosen from them."""

    model: str
    scale: str
    rule: str
    problem: str


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """The folder that contains the scales of `source`; for an archive, of its records. Raises `UsageError` if none
    does.
    """
    if not (source.is_dir() or source.is_file()):
        raise UsageError(f"{source}: no such folder or file; {ALLOWED}")
    with TemporaryDirectory() as temporary:
        root = source if source.is_dir() else Path(temporary)
        if not source.is_dir():
            try:
                extract(source, root)
            except UsageError:
                raise
            except UNREADABLE as error:
                raise UsageError(f"{source}: cannot be unpacked ({error}); {ALLOWED}") from None
        inside = [folder for folder in (root, *sorted(root.iterdir())) if _files(folder)]
        if not inside:
            raise UsageError(f"{source}: no records found; {ALLOWED}")
        if len(inside) > 1:
            several = ", ".join(folder.name for folder in inside)
            raise UsageError(f"{source}: contains several results folders ({several}); import one after the other")
        yield inside[0]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/records/*/*.json"))


def check(folder: Path, results: Path, replaying: Callable[[Incoming], None] = lambda incoming: None) -> Checked:
    """Checks every record in a folder of scales against the code, the data and the records here. Writes nothing.

    The first steps of one run per setting are repeated, and its seeds are accepted or refused together. `replaying` is
    called with each such run before it starts.
    """
    found = Checked()
    candidates: list[Incoming] = []
    for path in _files(folder):
        try:
            incoming = _incoming(path, results)
            (found.here if _is_here(incoming) else candidates).append(incoming)
        except (InvalidRecord, Misfit, UsageError) as error:
            found.refused.append((path, str(error)))
    sampled: dict[str, tuple[Path, str]] = {}
    for incoming in candidates:
        setting = incoming.config.without_numbers.digest
        if setting not in sampled:
            replaying(incoming)
            sampled[setting] = incoming.path, _replayed(incoming)
        sample, problem = sampled[setting]
        if not problem:
            found.fit.append(incoming)
        else:
            other = "" if sample == incoming.path else f"the run {sample.stem} of its setting does not match: "
            found.refused.append((incoming.path, other + problem))
    found.refused.sort()
    return found


def _incoming(path: Path, results: Path) -> Incoming:
    """The record in a file, checked except for its first losses. Raises `InvalidRecord` or `Misfit`."""
    record = read(path)
    config = parse(Config, record["config"], str(path))
    scale, experiment = path.parts[-4], path.parts[-2]
    if scale not in SCALES:
        raise Misfit(f"has no known scale: {scale}; expected: {', '.join(SCALES)}")
    if (record["scale"], record["experiment"]) != (scale, experiment):
        raise Misfit(f"belongs to experiment {record['experiment']} at scale {record['scale']}, not to its folder")
    if record["status"] == "failed":
        raise Misfit(f"failed, so it has no result: {record['reason']}")
    if differs(record):
        raise Misfit(f"was trained on other data: {config.dataset} has a different sha256 than the dataset")
    return Incoming(path, record, config, Store(results / scale), experiment)


def _is_here(incoming: Incoming) -> bool:
    """Whether the record is already here. Raises `Misfit` if there is a different record of the run, which is kept."""
    found = incoming.store.find(incoming.config, [incoming.experiment])
    if found is None or found["status"] == "failed":
        return False
    if found["seal"] != incoming.record["seal"]:
        raise Misfit(f"conflicts with {incoming.target}, a different record of the run, which is kept")
    return True


def _replayed(incoming: Incoming) -> str:
    """Why the first losses do not match; empty if they do."""
    try:
        resolve(incoming.config.dataset)
        return disagreement(incoming.config, incoming.record["first_losses"])
    except UsageError as error:
        return f"its first losses cannot be checked: {error}"


def copy(records: Sequence[Incoming]) -> None:
    """Copies records to their destinations, each atomically. Raises `UsageError` if a sweep is training one of the
    runs.
    """
    with ExitStack() as stack:
        stores = {incoming.store.folder: incoming.store for incoming in records}
        claims = {folder: stack.enter_context(Claims(store)) for folder, store in sorted(stores.items())}
        for incoming in records:
            of_folder = claims[incoming.store.folder]
            if not of_folder.take(incoming.config):
                holder = of_folder.holder(incoming.config)
                raise UsageError(f"{incoming.target}: {holder} is training this run; wait for it or stop it")
        for incoming in records:
            write_bytes(incoming.target, incoming.path.read_bytes())


def tune(records: Sequence[Incoming]) -> list[Tuned]:
    """Chooses the settings of every rule whose trials are among `records`, as `bench tune` does.

    Nothing is chosen if trials are missing, or if the settings here were chosen from other trials.
    """
    rules = {
        (incoming.store.folder, incoming.config.model, incoming.config.rule, incoming.config.dataset)
        for incoming in records
        if incoming.experiment == tuning_of(incoming.config.model)
    }
    return [
        Tuned(model, folder.name, rule, _tuned(folder, model, rule, data))
        for folder, model, rule, data in sorted(rules)
    ]


def _tuned(folder: Path, model: str, rule: str, dataset: str) -> str:
    find, scale = finder(model, Store(folder)), folder.name
    try:
        known = [config for of_round in trials(model, scale, rule, find, dataset) for config in of_round]
        if (n := sum(is_final(find(config)) for config in known)) < sum(ROUNDS):
            return f"{n} of {sum(ROUNDS)} trials are recorded"
        before = searches(model, scale, folder.parent).get(rule)
        if before not in (None, choice(model, scale, rule, find, dataset)):
            return "the settings here come from other trials, and are kept"
        choose(model, scale, rule, find, folder.parent, dataset)
    except UsageError as error:
        return str(error)
    return ""
