"""The claims on the page: verdict, conditions and figure of each."""

from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from replication.figures import FIGURES
from replication.findings import Finding, judge_claims
from replication.verdicts import ClaimVerdict

TONES = {ClaimVerdict.HOLDS: "good", ClaimVerdict.FAILS: "bad", ClaimVerdict.OPEN: "open"}
"""Colours of verdicts; the others are pale."""


class Card(NamedTuple):
    """A claim on the page."""

    finding: Finding
    tone: str
    figure: str
    """Its figure as a `data:` address; empty if there is nothing to draw."""


def cards(folder: Path, scale: str | None) -> Iterator[Card]:
    """The claims, judged by the records in `folder` at `scale`, or if None each at its best scale, as in the report."""
    for finding in judge_claims(folder, scale):
        yield Card(finding, TONES.get(finding.verdict_of, "none"), _drawn(finding) if finding.drawn else "")


def _drawn(finding: Finding) -> str:
    figure, _ = FIGURES.get(finding.claim.figure)(*finding.results)
    svg = BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return f"data:image/svg+xml;base64,{b64encode(svg.getvalue()).decode()}"
