"""`bench submit-check`: whether the runs of a results folder can join the standard table."""

from pathlib import Path

import typer

from bench.commands.show import table
from bench.errors import one_line
from bench.records.store import task_of
from bench.stats import mean_interval, number
from bench.sweeps.submission import check


def submit_check(folder: Path) -> int:
    """Prints the recorded settings with the digests to cite, then what is missing; returns 1 if something is."""
    settings, problems = check(folder)
    columns = ["scale", "task", "dataset", "setting", "n", "mean (%)", "records"]
    table(
        f"settings of {folder}",
        columns,
        (
            [
                scale,
                task_of(runs.config.model),
                runs.config.dataset,
                runs.config.setting,
                len(runs.records),
                number(mean_interval(runs.values.values()), ".3g" if runs.regression else ".2f"),
                runs.digest,
            ]
            for _, scale, runs in settings
        ),
    )
    for problem in problems:
        typer.echo(one_line(problem))
    typer.echo(f"problems: {len(problems) or 'none'}")
    return int(bool(problems))
