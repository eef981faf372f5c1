"""Table and figure of one experiment, from this repository or a plugin, written into its results folder."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bench.errors import UsageError
from bench.files import write_text
from bench.models import MODELS
from replication.figures import FIGURES
from replication.figures._against_bp import settings_alone
from replication.figures.base import save
from replication.latex import latex_table
from replication.leaderboard import entries, table
from replication.results import Results, results
from replication.tables import csv, pipe_table, table_of


def write_survey(name: str, scale: str, folder: Path) -> list[Path]:
    """Writes the table and the figure of the experiment `name`, and the leaderboard of `scale`; returns the files.

    All are in `folder`/`scale`. An experiment without its own figure gets one of its accuracies, one row per setting;
    a regression gets none. Raises `UsageError` if it has no records.
    """
    found = results(name, scale, folder)
    if not found.recorded:
        raise UsageError(
            f"{name}: no valid records at scale {scale} in {folder}; run: bench sweep {name} --scale {scale}"
        )
    made, here = table_of(found), folder / scale
    texts = {
        here / "tables" / f"{name}.csv": csv(made.numbers),
        here / "tables" / f"{name}.md": pipe_table(made.text),
        here / "tables" / f"{name}.tex": latex_table(made.text),
        here / "leaderboard.csv": csv(table(entries(folder, [scale]))),
    }
    for path, text in texts.items():
        write_text(path, text)
    if not has_figure(found):
        return [*texts]
    drawn = here / "figures" / name
    save(*draw(found), drawn)
    return [*texts, drawn.with_suffix(".svg"), drawn.with_suffix(".png")]


def has_figure(found: Results) -> bool:
    """Whether an experiment has its own figure, or accuracies to draw."""
    return found.experiment.name in FIGURES.names() or not MODELS.get(found.experiment.model).regression


def draw(found: Results) -> tuple[Figure, pd.DataFrame]:
    """The figure of an experiment, and its numbers: its own, else the accuracies, one row per setting."""
    name = found.experiment.name
    return (FIGURES.get(name) if name in FIGURES.names() else settings_alone)(found)
