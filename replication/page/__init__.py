"""The results page: a single self-contained HTML file, from the records."""

from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

import bench
from bench.errors import UsageError
from bench.files import write_text
from replication.leaderboard import entries, table
from replication.page.claims import cards
from replication.page.curves import groups
from replication.page.rows import rows_of
from replication.page.rules import articles
from replication.results import recorded_scales

HERE = Path(__file__).parent
_markdown = MarkdownIt("commonmark", {"html": False})


def write_page(path: Path, folder: Path, scale: str | None) -> int:
    """Writes the page of the records in `folder`, of one or all kept scales; returns the number of settings.

    Raises `UsageError` if there are no records.
    """
    scales = recorded_scales(folder) if scale is None else [scale]
    found = entries(folder, scales)
    if not found:
        where = folder / (scale or "SCALE") / "records"
        raise UsageError(f"{where}: no valid records found; expected: --results and --scale of a recorded sweep")
    rows = rows_of(table(found))
    template = _environment().get_template("page.html")
    page = template.render(
        cards=list(cards(folder, scale)),
        rows=rows,
        curves=groups(found, rows),
        rules=list(articles(rows)),
        scales=scales,
        version=bench.__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return len(rows)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["markdown"] = lambda text: Markup(_markdown.render(text))
    environment.filters["inline"] = lambda text: Markup(_markdown.renderInline(text))
    environment.globals["source"] = lambda name: Markup((HERE / name).read_text())
    environment.globals["distinct"] = _distinct
    return environment


def _distinct(values: Iterable[str]) -> list[str]:
    """Each value once, in order of appearance, without empty ones."""
    return list(dict.fromkeys(filter(None, values)))
