"""Ranks as users write them: a number, a fraction of the output channels, or full."""

import re
from collections.abc import Sequence
from fractions import Fraction

from torch import Tensor

from bench.errors import UsageError, cut, shown
from bench.rules.base import Rule, full_rank

Rank = int | Fraction | None
"""A number, a fraction of the output channels, or None for full rank."""
DIGITS = 20
"""Longest rank, in characters."""
FLAG = "--rank "
"""How messages to the command line refer to a rank."""


def parse_ranks(spec: int | str | None, labels: Sequence[str]) -> dict[str, Rank]:
    """The rank requested for each layer, from `10`, `1/4`, `full`, or `B1=10,B3=1/4` (the others full).

    Raises `UsageError` for an invalid rank, or a layer that does not exist.
    """
    if "=" not in str(spec):
        return dict.fromkeys(labels, parse_rank(spec))
    ranks: dict[str, Rank] = {}
    for part in str(spec).split(","):
        label, _, value = part.partition("=")
        if label not in labels:
            raise UsageError(f"--rank {cut(str(spec))}: no layer {shown(label)}; expected: {', '.join(labels)}")
        if label in ranks:
            raise UsageError(f"--rank {cut(str(spec))}: layer {label!r} is given twice; expected: once")
        ranks[label] = parse_rank(value)
    return dict.fromkeys(labels) | ranks


def parse_rank(value: int | str | None, name: str = FLAG) -> Rank:
    """One rank, called `name` in messages. Raises `UsageError` below 1, for a fraction outside (0, 1], and for 1.0."""
    if value is None or value == "full":
        return None
    text = str(value)
    if len(text) <= DIGITS and re.fullmatch(r"[1-9][0-9]*", text):
        return int(text)
    if len(text) <= DIGITS and re.fullmatch(r"[0-9]+/[1-9][0-9]*|[0-9]*\.[0-9]+", text):
        fraction = Fraction(text)
        if fraction == 1 and "." in text:
            raise UsageError(f"{name}{text}: rank 1, or all channels? expected: 1 or 'full'")
        if 0 < fraction <= 1:
            return fraction
    allowed = "a whole number from 1, a fraction in (0, 1] such as 1/4 or 0.25, 'full'"
    each = ", or LAYER=RANK[,LAYER=RANK]" if name == FLAG else ", or a mapping from layers to these"
    raise UsageError(f"{name}{cut(text)}: expected: {allowed}{each}")


def check_ranked(rule: Rule, rank: object, called: str) -> None:
    """Raises `UsageError` for a rank given to a rule without one."""
    if rank is not None and not rule.ranked:
        raise UsageError(f"rank={cut(str(rank))}: {called} has no rank; expected: no rank")


def rank_for(asked: Rank, like: Tensor) -> int:
    """The rank requested for feedback that replaces the map `like` (out, ...); it may exceed the full rank."""
    return max(1, round(asked * like.shape[0])) if isinstance(asked, Fraction) else asked or full_rank(like)
