"""Experiments: YAML files that expand to the configurations of their runs."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from bench.config import Config, parse, read_yaml
from bench.data import groups, resolve
from bench.errors import UsageError, shown, unknown
from bench.records.store import Record, Store
from bench.registry import NAME
from bench.sweeps.protocols import COMMITTED, SCALES, Scale, configure, protocol

OPTIONS = ("model_options", "rule_options")
"""Fields in which a run overrides the protocol option by option."""
KINDS: dict[str, type] = {"rule": str, "dataset": str} | dict.fromkeys(OPTIONS, dict)
"""Fields of a run whose values have to be of one type, each or each of a list."""
SHIPPED = "replication"
"""The package with the shipped experiments; its files are read, its code is not imported."""
SINGLE = "run"
"""Name under which `bench run` records."""
TUNING = "tune-"
"""Prefix of the names under which trials are recorded; the model follows."""
SEEDS = 1_000
"""Maximum number of seeds per setting."""
SETTINGS = 10_000
"""Maximum number of settings that one run of a file expands to."""


def tuning_of(model: str | None) -> str:
    """The name under which the trials of a network are recorded."""
    return f"{TUNING}{model}"


def is_experiment(name: str) -> bool:
    """Whether a folder of records belongs to an experiment, not to single runs or to trials."""
    return name != SINGLE and not name.startswith(TUNING)


@dataclass(frozen=True)
class Grid:
    """The runs of an experiment at one scale. Raises `UsageError` if there are none."""

    seeds: int
    claims: list[dict[str, Any]] = field(default_factory=list)
    """The runs that claims read: they come first, and `bench sweep --claims` trains only them.

    Each is a rule and fields of `Config` to set; lists of values are expanded into all combinations. `classes: [10,
    20]` sets `dataset` to every disjoint group of 10 and of 20 of its classes, `among: 100` to those among its first
    100 classes. A dataset with fewer classes has no such run.
    """
    runs: list[dict[str, Any]] = field(default_factory=list)
    """The other runs, in the same format, for tables and figures."""
    datasets: list[str] | None = None
    """Alternatives in order, replacing those of the protocol."""

    def __post_init__(self) -> None:
        if not (self.claims or self.runs):
            raise UsageError("key 'runs' is missing; expected: runs, claims or both")
        if not 1 <= self.seeds <= SEEDS:
            raise UsageError(f"seeds: {self.seeds} is not allowed; expected: 1 to {SEEDS:,}")


@dataclass(frozen=True)
class Experiment:
    """One question and the runs that answer it."""

    title: str
    model: str
    scales: dict[str, Grid]
    reuses: list[str] = field(default_factory=list)
    """Experiments whose records also count here, if the configuration is the same."""
    name: str = ""

    def __post_init__(self) -> None:
        for name in self.reuses:
            if not NAME.fullmatch(name):
                raise UsageError(f"reuses: {shown(name)} is no name of an experiment")

    def configs(
        self,
        scale: str,
        choose: Callable[[str | list[str]], str] = resolve,
        results: Path = COMMITTED,
        *,
        claims: bool = False,
    ) -> list[Config]:
        """The runs at a scale, all seeds of a setting together; with `claims` only those that claims read.

        `choose` selects one of alternative datasets. Tuned settings come from the folder `results`, as in `configure`.
        Raises `UsageError` for a scale that the experiment does not have, with `claims` if no claim reads it, and by
        default if the data are not present.
        """
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        if scale not in self.scales:
            raise UsageError(
                f"--scale {scale}: experiment {self.name!r} has no such scale; expected: {', '.join(self.scales)}"
            )
        choose = _once(choose)
        grid = self.scales[scale]
        if claims and not grid.claims:
            raise UsageError(f"--claims: no claim reads experiment {self.name!r} at scale {scale}; omit it")
        found = protocol(self.model, scale)
        first = [
            configure(
                self.model,
                scale=scale,
                seed=0,
                choose=choose,
                results=results,
                **{"dataset": grid.datasets, **settings, **_rank(settings), **_options(settings, found)},
            )
            for run in (grid.claims if claims else [*grid.claims, *grid.runs])
            for settings in _multiply(self._grouped(self._checked(run), scale, choose))
        ]
        return [replace(config, seed=seed) for config in first for seed in range(grid.seeds)]

    def plans(self, scale: str, results: Path, *, needed: bool = False) -> list[list[Config]]:
        """The runs at a scale, once for each alternative dataset, whether it is present or not.

        With `needed` only those that claims read, or all if no claim reads any.
        """
        grid = self.scales[scale]
        alternatives = len(grid.datasets or protocol(self.model, scale).datasets)
        claims = needed and bool(grid.claims)
        return [self.configs(scale, alternative(n), results, claims=claims) for n in range(alternatives)]

    def recorded(self, scale: str, store: Store, *, needed: bool = False) -> list[tuple[Config, Record | None]]:
        """The runs at a scale with their records, from the one of `plans` with the most records."""
        experiments = [self.name, *self.reuses]
        found = (
            [(config, store.find(config, experiments)) for config in configs]
            for configs in self.plans(scale, store.folder.parent, needed=needed)
        )
        return max(found, key=lambda runs: sum(record is not None for _, record in runs))

    def _checked(self, run: dict[str, Any]) -> dict[str, Any]:
        allowed = [*(f.name for f in fields(Config) if f.name not in ("model", "seed")), "classes", "among"]
        for key in run:
            if key not in allowed:
                raise UsageError(f"{self.name}.yaml: run {shown(run)}: {unknown('key', key, allowed)}")
        for key, value in run.items():
            if value == []:
                raise UsageError(f"{self.name}.yaml: run {shown(run)}: {key} has no value; expected: one or more")
        if math.prod(len(_listed(value)) for value in run.values()) > SETTINGS:
            raise UsageError(f"{self.name}.yaml: run {shown(run)}: more than {SETTINGS:,} settings")
        if "rule" not in run:
            raise UsageError(f"{self.name}.yaml: run {shown(run)}: key 'rule' is missing")
        for key, kind in KINDS.items():
            for value in _listed(run.get(key, kind())):
                if not isinstance(value, kind):
                    raise UsageError(
                        f"{self.name}.yaml: run {shown(run)}: {key}: {shown(value)} is not allowed; "
                        f"expected: {kind.__name__}"
                    )
        if "classes" in run and isinstance(run.get("dataset"), list):
            raise UsageError(f"{self.name}.yaml: run {shown(run)}: several datasets; expected: one beside 'classes'")
        if "among" in run and "classes" not in run:
            raise UsageError(f"{self.name}.yaml: run {shown(run)}: key 'among' needs 'classes'")
        for number in (*_listed(run.get("classes", 1)), run.get("among", 1)):
            if not isinstance(number, int) or number < 1:
                raise UsageError(
                    f"{self.name}.yaml: run {shown(run)}: {shown(number)} classes are not allowed; expected: 1 or more"
                )
        return run

    def _grouped(self, run: dict[str, Any], scale: str, choose: Callable[[str | list[str]], str]) -> dict[str, Any]:
        """A run with its groups of classes written as datasets."""
        if "classes" not in run:
            return run
        base = choose(run.get("dataset") or self.scales[scale].datasets or protocol(self.model, scale).datasets)
        others = {key: value for key, value in run.items() if key not in ("classes", "among")}
        parts = [part for classes in _listed(run["classes"]) for part in groups(base, classes, run.get("among"))]
        return others | {"dataset": parts}


def alternative(n: int) -> Callable[[str | list[str]], str]:
    """Selects the dataset at index n of the alternatives, or the last if there are fewer, present or not."""
    return lambda names: names if isinstance(names, str) else names[min(n, len(names) - 1)]


def _once(choose: Callable[[str | list[str]], str]) -> Callable[[str | list[str]], str]:
    """`choose`, which looks for files, called only once for each set of alternatives."""
    chosen: dict[str, str] = {}

    def choice(names: str | list[str]) -> str:
        key = repr(names)
        if key not in chosen:
            chosen[key] = choose(names)
        return chosen[key]

    return choice


def _rank(settings: dict[str, Any]) -> dict[str, str]:
    """The rank of a run as text: YAML reads 10 as a number."""
    rank = settings.get("rank")
    return {"rank": str(rank)} if isinstance(rank, int | float) and not isinstance(rank, bool) else {}


def _options(settings: dict[str, Any], found: Scale) -> dict[str, Any]:
    """The options of a run, completed with those of the protocol."""
    standard = found.settings | found.rules.get(settings["rule"], {})
    return {name: standard.get(name, {}) | settings[name] for name in OPTIONS if name in settings}


def _multiply(run: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(run, combination, strict=True)) for combination in product(*map(_listed, run.values()))]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def folders() -> list[Path]:
    """The folders searched for experiments, in order.

    The folders in BENCH_EXPERIMENTS (separated as in PATH), then that of the package `replication`, if it is installed
    or the repository is present. Raises `UsageError` for a folder in BENCH_EXPERIMENTS that does not exist.
    """
    own = [Path(folder) for folder in os.environ.get("BENCH_EXPERIMENTS", "").split(os.pathsep) if folder]
    for folder in own:
        if not folder.is_dir():
            raise UsageError(f"BENCH_EXPERIMENTS: {folder}: no such folder")
    return own + ([Path(str(files(SHIPPED))) / "experiments"] if find_spec(SHIPPED) else [])


def names() -> list[str]:
    """The experiments of all folders."""
    return sorted({path.stem for folder in folders() for path in folder.glob("*.yaml")})


def experiment(name: str) -> Experiment:
    """The experiment called `name`, from the first folder that has it.

    Raises `UsageError` if there is none or its file is invalid.
    """
    path = next((path for folder in folders() for path in folder.glob("*.yaml") if path.stem == name), None)
    if path is None:
        raise unknown("experiment", name, names())
    content = read_yaml(path)
    return parse(Experiment, content | {"name": name} if isinstance(content, dict) else content, str(path))
