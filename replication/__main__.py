"""`python -m replication [--scale S]` rebuilds the report from the records; `replicate` runs the full replication."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.show import table
from bench.errors import UsageError, run_command, unknown
from bench.sweeps.protocols import SCALES

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def report(
    context: typer.Context,
    scale: Annotated[str | None, typer.Option(help="Report only this scale, into its folder under results/.")] = None,
) -> None:
    """Rebuild tables, figures and REPORT.md from the records, and print the verdicts."""
    if context.invoked_subcommand:
        return
    from replication import metrics
    from replication.report import REPORT, write_report, write_scale
    from replication.results import FOLDER

    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    findings = write_report() if scale is None else write_scale(scale)
    path = REPORT if scale is None else FOLDER / scale / REPORT
    rows = [(f.name.upper(), f.claim.title, f.verdict, f.level, f.scale, f.judgement.n) for f in findings]
    title = "Claims" if scale is None else f"Claims at scale {scale}"
    table(title, ("claim", "", "verdict", "level", "scale", "n"), rows)
    if scale is None:
        metrics.write(findings)
    print(f"report: {path.resolve()}")


Folder = Annotated[Path, typer.Option("--results", help="Results folder, with one subfolder per scale.")]


@app.command()
def survey(
    experiment: Annotated[str, typer.Argument(help="Experiment; see `bench list experiments`.")],
    scale: Annotated[str, typer.Option(help="quick, cpu, gpu or paper.")],
    results: Folder = Path("results"),
) -> None:
    """Write table, figure and leaderboard of one experiment into its results folder."""
    from replication.survey import write_survey

    for path in write_survey(experiment, scale, results):
        print(path)


@app.command()
def page(
    results: Folder = Path("results"),
    scale: Annotated[
        str | None, typer.Option(help="Show only this scale. Default: paper, gpu and cpu, if recorded.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Output file.")] = Path("site/index.html"),
) -> None:
    """Write the results page, a single file that works offline."""
    from replication.page import write_page

    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    settings = write_page(output, results, scale)
    print(f"page: {output.resolve()}, {settings} settings")


@app.command()
def replicate(
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Run in Slurm jobs described by FILE; see docs/cluster.md.")
    ] = None,
) -> None:
    """Run the full replication with DVC on a GPU, or in Slurm jobs; without either, estimate its cost."""
    import torch

    if cluster is not None:
        from replication.full import replicate_by_jobs

        sys.exit(replicate_by_jobs(cluster))
    if torch.cuda.is_available():
        if not shutil.which("dvc"):
            raise UsageError("dvc is not installed; docs/another-machine.md shows how to run without it")
        sys.exit(subprocess.call(["dvc", "repro"]))
    from replication.full import GPU, written_estimates

    text = written_estimates()
    title = f"The full replication (scale gpu) needs a GPU; estimated for an {GPU.upper()}"
    table(title, text.columns, text.itertuples(index=False))
    print("No GPU found. On a machine with one, `make replicate` runs all of it and resumes after an interruption.")
    print("On a cluster: `make replicate CLUSTER=slurm.yaml`; see docs/cluster.md.")
    print(
        "On a CPU: `make repro` (minutes), or `make repro SCALE=cpu` (real images, up to 30 hours; recorded runs stay)."
    )


@app.command()
def estimate() -> None:
    """Write the estimated cost of the full replication on a GPU into docs/another-machine.md."""
    from replication.full import write_estimate

    print(f"estimate: {write_estimate()}")


if __name__ == "__main__":
    run_command(app)
