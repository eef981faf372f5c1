"""`python -m replication [--scale S]` rebuilds the report from the records; `replicate` runs the full replication."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.errors import UsageError, unknown
from bench.protocols import SCALES

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def report(
    context: typer.Context,
    scale: Annotated[str | None, typer.Option(help="Only this scale, into its own folder under results/.")] = None,
) -> None:
    """Rebuild tables, figures and REPORT.md from the records alone, and print the verdicts."""
    if context.invoked_subcommand:
        return
    from replication.report import all_claims, write_report, write_scale

    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    judged = write_report() if scale is None else write_scale(scale)
    path = Path("REPORT.md") if scale is None else Path("results", scale, "REPORT.md")
    titles = {name: claim.title for name, claim in all_claims()}
    table = Table("claim", "", "verdict", "n", title="Claims" if scale is None else f"Claims at scale {scale}")
    for name, judgement in judged:
        table.add_row(name.upper(), titles[name], str(judgement.verdict), str(judgement.n))
    Console().print(table)
    print(f"report: {path.resolve()}")


def main() -> None:
    """Runs the command line; bad input is one line and exit status 2."""
    try:
        app()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
