"""The rules on the page: equations and source from the file of each, what it reads, and its cost."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.rules import RULES
from bench.rules.base import Rule
from bench.training.costs import example
from replication.page.rows import Row, locality

TERMS = re.compile(r"((?:Error sent down|Gradient of \w+):)", re.IGNORECASE)
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{5})")


class Article(NamedTuple):
    """A rule on the page."""

    name: str
    rule: Rule
    title: str
    text: str
    """The docstring of its module in Markdown, with its terms in bold and links to its sources."""
    locality: str
    parameters: float
    """Feedback parameters relative to weights, for the layer of `bench.training.costs.example`."""
    error_path: float
    """FLOPs of the error path relative to `bp`, for the same layer."""
    rows: list[Row]


def articles(rows: Sequence[Row]) -> Iterator[Article]:
    """The installed rules, each with its rows of the leaderboard."""
    for name, kind in RULES.all().items():
        rule = kind()
        title, text = ((described.__doc__ or "").strip() for described in (rule, RULES.module(name)))
        title = title.partition("\n")[0].removeprefix(f"`{name}`: ")
        parameters, error_path = example(rule)
        yield Article(
            name=name,
            rule=rule,
            title=title[:1].upper() + title[1:],
            text=ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", TERMS.sub(r"**\1**", text)),
            locality=locality(rule.reads_weights, rule.reads_targets),
            parameters=parameters,
            error_path=error_path,
            rows=[row for row in rows if row.said["rule"] == name],
        )
