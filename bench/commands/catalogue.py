"""`bench list` and `bench data`: what there is."""

import sys
from collections.abc import Iterable
from typing import Any

import typer

from bench import experiments
from bench.commands.show import table
from bench.data import DATASETS, folders, status
from bench.errors import UsageError, unknown
from bench.models import MODELS
from bench.rules import RULES


def show(kind: str | None) -> int:
    """Prints the tables of all kinds, or of one."""
    kinds = {"rules": rules, "models": models, "datasets": datasets, "experiments": all_experiments}
    if kind is not None and kind not in kinds:
        raise unknown("list", kind, kinds)
    for name in [kind] if kind else kinds:
        columns, rows = kinds[name]()
        table(name, columns, rows)
    return 0


Rows = tuple[list[str], Iterable[Iterable[Any]]]


def rules() -> Rows:
    found = {name: RULES.get(name) for name in RULES.names()}
    return ["rule", "what it does", "reads weights", "reads targets", "has a rank"], [
        [
            name,
            _title(rule).removeprefix(f"`{name}`: "),
            rule.reads_weights,
            _yes(rule.reads_targets),
            _yes(rule.ranked),
        ]
        for name, rule in found.items()
    ]


def models() -> Rows:
    found = {name: MODELS.get(name) for name in MODELS.names()}
    return ["model", "what it is", "task"], [
        [name, _title(sys.modules[model.__module__]), f"{name}/{model.version}"] for name, model in found.items()
    ]


def datasets() -> Rows:
    found = [DATASETS.get(name) for name in DATASETS.names()]
    return ["dataset", "what it is", "outputs", "training", "test"], [
        [dataset.name, dataset.note, dataset.outputs, *dataset.sizes] for dataset in found
    ]


def all_experiments() -> Rows:
    found = [experiments.experiment(name) for name in experiments.names()]
    return ["experiment", "question", "model", "scales"], [
        [each.name, each.title, each.model, ", ".join(each.scales)] for each in found
    ]


def data(download: str | None) -> int:
    """Fetches a dataset into the first data folder, if asked to; prints where each dataset is."""
    if download is not None:
        folder = folders()[0]
        try:
            DATASETS.get(download).download(folder)
        except OSError as error:
            raise UsageError(f"--download {download}: {folder} cannot be written ({error.strerror})") from None
        typer.echo(f"{download} is in {folder}")
    columns = ["dataset", "where", "verified", "outputs", "training", "test", "how to get it"]
    verified = {True: "yes", False: "no, altered", None: None}
    table("datasets", columns, ([*row[:2], verified[row.verified], *row[3:]] for row in status()))
    return 0


def _title(described: object) -> str:
    return (described.__doc__ or "").partition("\n")[0]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
