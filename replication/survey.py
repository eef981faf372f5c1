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
from replication.tables import Table, csv, pipe_table, table_of


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
    here = folder / scale
    board, drawn = here / "leaderboard.csv", here / "figures" / name
    written = [*write_table(table_of(found), here / "tables" / name), board]
    write_text(board, csv(table(entries(folder, [scale]))))
    if not has_figure(found):
        return written
    save(*draw(name, found), drawn)
    return [*written, drawn.with_suffix(".svg"), drawn.with_suffix(".png")]


def write_table(made: Table, path: Path) -> list[Path]:
    """Writes `path`.csv, with all numbers, and `path`.md and `path`.tex, for readers; returns the files."""
    texts = {
        path.with_suffix(".csv"): csv(made.numbers),
        path.with_suffix(".md"): pipe_table(made.text),
        path.with_suffix(".tex"): latex_table(made.text),
    }
    for file, text in texts.items():
        write_text(file, text)
    return [*texts]


def has_figure(found: Results) -> bool:
    """Whether an experiment has its own figure, or accuracies to draw."""
    return found.experiment.name in FIGURES.names() or not MODELS.get(found.experiment.model).regression


def draw(name: str, *found: Results) -> tuple[Figure, pd.DataFrame]:
    """The figure `name` and its numbers; if no file draws it, the accuracies, one row per setting."""
    return (FIGURES.get(name) if name in FIGURES.names() else settings_alone)(*found)
