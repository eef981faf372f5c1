"""Experiments: YAML files that expand to the configurations of their runs."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from bench.config import Config, parse, read_yaml
from bench.data import groups, resolve
from bench.errors import UsageError, shown, unknown
from bench.records.store import Record, Store
from bench.sweeps.protocols import COMMITTED, SCALES, Scale, configure, protocol

OPTIONS = ("model_options", "rule_options")
"""Fields of a run that stand above the protocol's one option at a time."""
SEEDS = 1_000
"""Most seeds of a setting."""
SETTINGS = 10_000
"""Most settings that one run of a file expands to."""


@dataclass(frozen=True)
class Grid:
    """The runs of an experiment at one scale. Raises `UsageError` where there are none."""

    seeds: int
    claims: list[dict[str, Any]] = field(default_factory=list)
    """The runs that claims read: they come first, and `bench sweep --claims` trains them alone.

    Each a rule, and fields of `Config` to set; a list of values multiplies. `classes: [10, 20]` takes for `dataset`
    every disjoint group of 10 and of 20 classes of it, `among: 100` those among its first 100 classes. A dataset that
    has fewer classes has no such run.
    """
    runs: list[dict[str, Any]] = field(default_factory=list)
    """The other runs, written likewise: they fill tables and figures."""
    datasets: list[str] | None = None
    """Alternatives in order, above those of the protocol."""

    def __post_init__(self) -> None:
        if not (self.claims or self.runs):
            raise UsageError("key 'runs' is missing; expected: runs, claims or both")
        if not 1 <= self.seeds <= SEEDS:
            raise UsageError(f"seeds: {self.seeds} is not allowed; expected: 1 to {SEEDS:,}")


@dataclass(frozen=True)
class Experiment:
    """One question, and the runs that answer it."""

    title: str
    model: str
    scales: dict[str, Grid]
    reuses: list[str] = field(default_factory=list)
    """Experiments whose records count here too, where the configuration is the same."""
    name: str = ""

    def configs(
        self,
        scale: str,
        choose: Callable[[str | list[str]], str] = resolve,
        results: Path = COMMITTED,
        *,
        claims: bool = False,
    ) -> list[Config]:
        """The runs at a scale, all seeds of a setting together; with `claims` those that claims read, alone.

        `choose` takes one of alternative datasets. Tuned settings are those of the folder `results`, as `configure` has
        them. Raises `UsageError` for a scale that it lacks, with `claims` where no claim reads it, and by default for
        data that are not present.
        """
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        if scale not in self.scales:
            raise UsageError(f"--scale {scale}: experiment {self.name!r} has {', '.join(self.scales)} only")
        grid = self.scales[scale]
        if claims and not grid.claims:
            raise UsageError(f"--claims: no claim reads experiment {self.name!r} at scale {scale}; leave it out")
        found = protocol(self.model, scale)
        return [
            configure(
                self.model,
                scale=scale,
                seed=seed,
                choose=choose,
                results=results,
                **{"dataset": grid.datasets, **settings, **_options(settings, found)},
            )
            for run in (grid.claims if claims else [*grid.claims, *grid.runs])
            for settings in _multiply(self._grouped(self._checked(run), scale, choose))
            for seed in range(grid.seeds)
        ]

    def recorded(self, scale: str, store: Store, *, needed: bool = False) -> list[tuple[Config, Record | None]]:
        """The runs at a scale with their records, on the one alternative dataset that most of them are recorded on.

        With `needed` only those that claims read, or all where no claim reads any. Reads records alone: no data need be
        present.
        """
        grid = self.scales[scale]
        claims = needed and bool(grid.claims)

        def runs(n: int) -> list[tuple[Config, Record | None]]:
            configs = self.configs(scale, alternative(n), store.folder.parent, claims=claims)
            return [(config, store.find(config, [self.name, *self.reuses])) for config in configs]

        alternatives = len(grid.datasets or protocol(self.model, scale).datasets)
        return max(map(runs, range(alternatives)), key=lambda found: sum(record is not None for _, record in found))

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
        if "among" in run and "classes" not in run:
            raise UsageError(f"{self.name}.yaml: run {shown(run)}: key 'among' needs 'classes'")
        for number in (*_listed(run.get("classes", 1)), run.get("among", 1)):
            if not isinstance(number, int) or number < 1:
                raise UsageError(
                    f"{self.name}.yaml: run {shown(run)}: {shown(number)} classes are not allowed; allowed: 1 or more"
                )
        return run

    def _grouped(self, run: dict[str, Any], scale: str, choose: Callable[[str | list[str]], str]) -> dict[str, Any]:
        """A run with the groups of classes that it names as its datasets."""
        if "classes" not in run:
            return run
        base = choose(run.get("dataset") or self.scales[scale].datasets or protocol(self.model, scale).datasets)
        others = {key: value for key, value in run.items() if key not in ("classes", "among")}
        parts = [part for classes in _listed(run["classes"]) for part in groups(base, classes, run.get("among"))]
        return others | {"dataset": parts}


def alternative(n: int) -> Callable[[str | list[str]], str]:
    """Takes the dataset at index n of alternatives, the last where there are fewer, present or not."""
    return lambda names: names if isinstance(names, str) else names[min(n, len(names) - 1)]


def _options(settings: dict[str, Any], found: Scale) -> dict[str, Any]:
    """The options that a run names, with those of the protocol that it does not."""
    standard = found.settings | found.rules.get(settings["rule"], {})
    return {name: standard.get(name, {}) | settings[name] for name in OPTIONS if name in settings}


def _multiply(run: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(run, combination, strict=True)) for combination in product(*map(_listed, run.values()))]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def folder() -> Path:
    """Where experiments are: BENCH_EXPERIMENTS, else `replication/experiments`."""
    return Path(os.environ.get("BENCH_EXPERIMENTS", "replication/experiments"))


def names() -> list[str]:
    """The experiments that are there."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def experiment(name: str) -> Experiment:
    """The experiment called `name`. Raises `UsageError` where there is none or its file is wrong."""
    if name not in names():
        raise unknown("experiment", name, names())
    path = folder() / f"{name}.yaml"
    content = read_yaml(path)
    return parse(Experiment, content | {"name": name} if isinstance(content, dict) else content, str(path))
