"""What the page says of a claim: the verdict with what it rests on, and its figure."""

from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from replication.figures import FIGURES
from replication.findings import Finding, judge_claims
from replication.verdicts import ClaimVerdict

TONES = {ClaimVerdict.HOLDS: "good", ClaimVerdict.FAILS: "bad", ClaimVerdict.OPEN: "open"}
"""How a verdict is coloured; the others are pale."""


class Card(NamedTuple):
    """A claim on the page."""

    finding: Finding
    tone: str
    figure: str
    """The address of its figure, which holds all of it (`data:`); empty where there is nothing to draw."""


def cards(folder: Path, scale: str | None) -> Iterator[Card]:
    """The claims, judged by the records in `folder` at `scale`; where it is None each at its best, as in the report."""
    for finding in judge_claims(folder, scale):
        yield Card(finding, TONES.get(finding.verdict_of, "none"), _drawn(finding) if finding.drawn else "")


def _drawn(finding: Finding) -> str:
    figure, _ = FIGURES.get(finding.claim.figure)(*finding.results)
    svg = BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return f"data:image/svg+xml;base64,{b64encode(svg.getvalue()).decode()}"
