"""The command line. Commands import what they need when they run, so that `--help` is fast."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from bench.errors import UsageError, not_installed, one_line, unknown

if TYPE_CHECKING:
    from bench.commands.plans import Place

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, help="Train networks with learning rules and record results."
)

TyperUsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""Raised for unknown options and similar errors; typer gives the class no public name."""

Model = Annotated[str, typer.Option(help="Network; see `bench list models`.")]
Scale = Annotated[str, typer.Option(help="quick, cpu, gpu or paper.")]
Results = Annotated[Path, typer.Option(help="Results folder, with one subfolder per scale.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Parallel processes. Default: one per core on the CPU, one on a GPU.", show_default=False),
]
Population = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most runs trained as one program (they differ only in seed and rank). Default: 1 on the CPU, as many as "
        "fit into memory on a GPU.",
        show_default=False,
    ),
]
Cluster = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Run in Slurm jobs described by FILE; see docs/cluster.md.", show_default=False),
]
Budget = Annotated[float | None, typer.Option(min=0, help="Seconds after which to stop; the same command resumes.")]


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="rules, models, datasets or experiments. Default: all.")] = None,
) -> int:
    """List rules, models, datasets and experiments."""
    from bench.commands.catalogue import show

    return show(kind)


@app.command()
def run(
    model: Model,
    rule: Annotated[str, typer.Option(help="Learning rule; see `bench list rules`.")],
    scale: Scale,
    rank: Annotated[str | None, typer.Option(help="10, full, or per layer: B1=10,B3=4. Default: full.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Default: the model's dataset at this scale.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    results: Results = Path("results"),
    device: Device = "cpu",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a field: epochs=2 or model_options.width=64. Repeatable."),
    ] = None,
    save_weights: Annotated[Path | None, typer.Option(help="Train, and save the state_dict to this file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Train even if the run is already recorded.")] = False,
) -> int:
    """Train one network and record it."""
    from bench.commands.run import train_one

    return train_one(
        model,
        rule,
        rank,
        dataset,
        seed,
        scale,
        overrides=set_ or [],
        results=results,
        device=_available(device),
        save_weights=save_weights,
        force=force,
    )


@app.command()
def sweep(
    experiment: Annotated[list[str], typer.Argument(help="One or several; see `bench list experiments`.")],
    scale: Scale,
    results: Results = Path("results"),
    claims: Annotated[bool, typer.Option("--claims", help="Only the runs that claims read.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which runs are missing.")] = False,
    budget: Budget = None,
    workers: Workers = None,
    population: Population = None,
    device: Device = "cpu",
    cluster: Cluster = None,
    submit_only: Annotated[bool, typer.Option("--submit-only", help="Do not wait for the --cluster jobs.")] = False,
    estimate: Annotated[
        str | None, typer.Option(metavar="GPU", help="Only estimate the missing runs on a GPU: a100, h100 or h200.")
    ] = None,
) -> int:
    """Train the missing runs of experiments, in the order given."""
    from bench.commands.sweep import sweep
    from bench.sweeps.experiments import experiment as find

    experiments = [find(name) for name in dict.fromkeys(experiment)]
    if estimate:
        from bench.commands.sweep import show_estimate

        return show_estimate(experiments, scale, estimate, results=results, claims=claims, workers=workers or 1)
    if submit_only and not cluster:
        raise UsageError("--submit-only: requires --cluster")
    return sweep(
        experiments,
        scale,
        results=results,
        claims=claims,
        dry_run=dry_run,
        population=population or (1 if device == "cpu" else None),
        budget=budget,
        place=_place(cluster, budget, workers, device, submit_only),
    )


@app.command()
def tune(
    model: Model,
    scale: Scale,
    rule: Annotated[list[str] | None, typer.Option(help="Repeatable. Default: all rules.", show_default=False)] = None,
    results: Results = Path("results"),
    budget: Budget = None,
    workers: Workers = None,
    device: Device = "cpu",
    cluster: Cluster = None,
) -> int:
    """Tune the settings of rules on the validation split."""
    from bench.commands.tune import tune
    from bench.rules import RULES

    rules = rule or list(RULES.all())
    return tune(model, scale, rules, results=results, budget=budget, place=_place(cluster, budget, workers, device))


@app.command()
def compare(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="Rule, with its rank: ldfa@10, ldfa@1/4, ldfa@B1=10.")],
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help="Rule to compare with, in the same form.")],
    task: Annotated[str, typer.Option(help="Network, with or without the task's version: mlp, mlp/1.")],
    scale: Annotated[
        str | None, typer.Option(help="Default: the largest at which both are recorded.", show_default=False)
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Required if several are recorded.", show_default=False)] = None,
    results: Results = Path("results"),
) -> int:
    """Compare two rules on their recorded runs with the protocol's settings."""
    from bench.commands.compare import compare

    return compare(rule, baseline, task, scale=scale, dataset=dataset, results=results)


@app.command()
def data(
    download: Annotated[str | None, typer.Option(metavar="NAME", help="Fetch a dataset into the data folder.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Read and verify all files and the cache.")] = False,
    clear_cache: Annotated[bool, typer.Option("--clear-cache", help="Delete the decoded images.")] = False,
) -> int:
    """Show where the datasets are and whether their files are intact."""
    from bench.commands.catalogue import data

    return data(download, check, clear_cache)


@app.command()
def verify(
    results: Results = Path("results"),
    golden: Annotated[bool, typer.Option(help="Check that the code reproduces the golden trajectories.")] = True,
) -> int:
    """Check every record."""
    from bench.commands.verify import verify

    return verify(results, golden)


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Results folder of another machine, or a .tar, .tar.gz or .zip.")
    ],
    results: Results = Path("results"),
) -> int:
    """Import records made on another machine."""
    from bench.commands.import_ import import_

    return import_(source, results)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder; must be empty or new.")],
    results: Results = Path("results"),
) -> int:
    """Export the records as a dataset: Parquet files and a dataset card."""
    from bench.commands.export import export

    return export(folder, results)


@app.command("submit-check")
def submit_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder of `bench sweep` and `bench tune`.")],
) -> int:
    """Check whether runs can join the standard table."""
    from bench.commands.submit_check import submit_check

    return submit_check(folder)


@app.command()
def speed(
    rows: Annotated[list[str] | None, typer.Option(help="Repeatable. Default: all rows.", show_default=False)] = None,
    results: Annotated[
        Path | None, typer.Option(help="Save all rows in this folder: speed/MACHINE.json.", show_default=False)
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> int:
    """Measure what training costs on this machine (takes minutes)."""
    from bench.commands.speed import speed

    return speed(rows, results=results, as_json=json_)


def _place(
    cluster: Path | None, budget: float | None, workers: int | None, device: str, submit_only: bool = False
) -> "Place":
    """Where runs are trained: on this machine, or in cluster jobs, whose nodes determine devices and cores."""
    from bench.commands.plans import Place

    if cluster is None:
        return Place(_available(device), workers)
    from bench.sweeps.executors.cluster import read_cluster

    if budget is not None:
        raise UsageError(f"--budget {budget:g}: cannot be used with --cluster; expected: time in {cluster}")
    return Place(_named(device), workers, read_cluster(cluster), submit_only)


def _named(device: str) -> str:
    if device not in ("cpu", "cuda"):
        raise unknown("device", device, ["cpu", "cuda"], near={"gpu": "cuda"}.get(device.lower()))
    return device


def _available(device: str) -> str:
    _named(device)
    if device == "cuda" and not _has_gpu():
        raise UsageError("--device cuda: no GPU found; expected: cpu")
    return device


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status. Bad input or a failing disk gives one line and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if sys.stdout is None:
            raise UsageError("standard output is closed; expected: a terminal, a file or a pipe")
        status = app(arguments or ["--help"], prog_name="bench", standalone_mode=False)
        sys.stdout.flush()
        return status
    except UsageError as error:
        message = str(error)
    except TyperUsageError as error:
        message = error.format_message()
    except ModuleNotFoundError as error:
        message = str(not_installed(error))
    except OSError as error:
        where = error.filename or ("standard output" if _output_fails() else None)
        message = ": ".join(filter(None, [where, error.strerror or str(error)]))
    print("error:", one_line(" ".join(message.split())), file=sys.stderr)
    return 2


def _output_fails() -> bool:
    """Whether standard output cannot be written. Drops what it holds, which Python would otherwise try to write at
    exit.
    """
    try:
        print(flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
