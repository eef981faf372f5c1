"""`bench list` and `bench data`: what is available."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from bench.commands.show import table
from bench.data import DATASETS, Status, folders, status
from bench.errors import UsageError, unknown
from bench.files import cache_folder
from bench.models import MODELS
from bench.rules import RULES
from bench.sweeps import experiments

if TYPE_CHECKING:
    from bench.models.base import Network


def show(kind: str | None) -> int:
    """Prints the tables of all kinds, or of one."""
    kinds = {"rules": rules, "models": models, "datasets": datasets, "experiments": all_experiments}
    if kind is not None and kind not in kinds:
        raise unknown("list", kind, kinds)
    for name in [kind] if kind else kinds:
        columns, rows = kinds[name]()
        table(TITLES.get(name, name), columns, rows)
    return 0


TITLES = {
    "rules": "rules; extra parameters relative to the weights, and error path FLOPs relative to bp, "
    "for a 512 x 512 Linear layer (rank 10, batch 128, direct error 10 wide)"
}
Rows = tuple[list[str], Iterable[Iterable[Any]]]


def rules() -> Rows:
    from bench.training.costs import example

    columns = ["version", "reads weights", "reads targets", "has a rank", "extra parameters", "error path FLOPs"]
    return ["rule", "description", *columns], [
        [
            name,
            _title(rule).removeprefix(f"`{name}`: "),
            rule.version,
            rule.reads_weights,
            _yes(rule.reads_targets),
            _yes(rule.ranked),
            *(round(share, 3) for share in example(rule)),
        ]
        for name, rule in ((name, kind()) for name, kind in RULES.all().items())
    ]


def models() -> Rows:
    return ["model", "description", "task", "rules"], [
        [name, _title(MODELS.module(name)), f"{name}/{model.version}", _rules_for(model)]
        for name, model in MODELS.all().items()
    ]


def _rules_for(model: "type[Network]") -> str:
    """Direct rules need a single output, and rules that give every layer the targets need class labels."""
    rules = {name: rule() for name, rule in RULES.all().items()}
    lacking = {name for name, rule in rules.items() if rule.direct and not model.output_module}
    lacking |= {name for name, rule in rules.items() if not rule.serves(model.regression)}
    return f"all except {', '.join(sorted(lacking))}" if lacking else "all"


def datasets() -> Rows:
    return ["dataset", "description", "outputs", "training", "test"], [
        [dataset.name, dataset.note, dataset.outputs, *dataset.sizes] for dataset in DATASETS.all().values()
    ]


def all_experiments() -> Rows:
    found = [experiments.experiment(name) for name in experiments.names()]
    return ["experiment", "question", "model", "scales"], [
        [each.name, each.title, each.model, ", ".join(each.scales)] for each in found
    ]


def data(download: str | None, check: bool, clear_cache: bool) -> int:
    """Fetches a dataset into the first data folder or clears the cache, if requested; prints where each dataset is.

    The exit status is 1 if a check finds a problem.
    """
    from bench.data import _cache

    if clear_cache:
        _cache.clear()
    if download is not None:
        folder = folders()[0]
        try:
            DATASETS.get(download).download(folder)
        except OSError as error:
            raise UsageError(f"--download {download}: {folder} cannot be written ({error.strerror})") from None
        typer.echo(f"{download} is in {folder}")
    rows = status(check)
    columns = ["dataset", "where", "verified", "outputs", "training", "test", "how to get it"]
    table("datasets", columns, ([row.name, row.where, _verified(row), *row[4:]] for row in rows))
    kept = sum(path.stat().st_size for path in _cache.files()) // 10**6
    typer.echo(
        f"Decoded images: {kept} MB in {cache_folder()} (BENCH_CACHE sets the folder, --clear-cache deletes them)"
    )
    problems = [f"{row.name}: {row.problem}" for row in rows if row.problem]
    for problem in problems:
        typer.echo(problem)
    return int(bool(problems))


def _verified(row: Status) -> str | None:
    if row.verified is None:
        return None
    return "yes" if row.verified else "no, see below" if row.problem else "not yet"


def _title(described: object) -> str:
    return (described.__doc__ or "").partition("\n")[0]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
