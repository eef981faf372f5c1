"""Experiments: YAML files that expand to the configurations of their runs."""

import os
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from bench.config import Config, parse, read_yaml
from bench.errors import UsageError, unknown
from bench.protocols import SCALES, configure


@dataclass(frozen=True)
class Grid:
    """The runs of an experiment at one scale."""

    seeds: int
    runs: list[dict[str, Any]]
    """Each a rule, and fields of `Config` to set; a list of values multiplies."""
    datasets: list[str] | None = None
    """Alternatives in order, above those of the protocol."""


@dataclass(frozen=True)
class Experiment:
    """One question, and the runs that answer it."""

    title: str
    model: str
    scales: dict[str, Grid]
    reuses: list[str] = field(default_factory=list)
    """Experiments whose records count here too, where the configuration is the same."""
    name: str = ""

    def configs(self, scale: str) -> list[Config]:
        """The runs at a scale, all seeds of a setting together. Raises `UsageError` for a scale that it lacks."""
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        if scale not in self.scales:
            raise UsageError(f"--scale {scale}: experiment {self.name!r} has {', '.join(self.scales)} only")
        grid = self.scales[scale]
        return [
            configure(self.model, scale=scale, seed=seed, **{"dataset": grid.datasets, **settings})
            for run in grid.runs
            for settings in _multiply(self._checked(run))
            for seed in range(grid.seeds)
        ]

    def _checked(self, run: dict[str, Any]) -> dict[str, Any]:
        allowed = [f.name for f in fields(Config) if f.name not in ("model", "seed")]
        for key in run:
            if key not in allowed:
                raise UsageError(f"{self.name}.yaml: run {run}: {unknown('key', key, allowed)}")
        if "rule" not in run:
            raise UsageError(f"{self.name}.yaml: run {run}: key 'rule' is missing")
        return run


def _multiply(run: dict[str, Any]) -> list[dict[str, Any]]:
    values = [value if isinstance(value, list) else [value] for value in run.values()]
    return [dict(zip(run, combination, strict=True)) for combination in product(*values)]


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
