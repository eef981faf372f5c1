"""A claim with the records that it was judged by, and how the report names and shows the result."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.sweeps.experiments import experiment
from replication.claims import CLAIMS
from replication.claims.base import MORE, Claim, Judgement, Part, judged, results_for
from replication.results import FOLDER, Results, recorded_scales, results
from replication.verdicts import ClaimVerdict

TOPICS = {
    "Linear networks": ("l1", "l2", "l3"),
    "MLP": ("n1", "n2", "n3", "n4"),
    "CNN and ViT": ("c1", "t1", "e1"),
    "What is learned": ("s1", "h1", "r1"),
}
"""The claims in the paper's order; claims that are not listed go beyond the paper."""
BEYOND = "Beyond the paper"


@dataclass(frozen=True)
class Finding:
    """A claim, the records that it was judged by (one `Results` per experiment), and the judgement."""

    name: str
    claim: Claim
    results: tuple[Results, ...]
    judgement: Judgement
    others: tuple["Finding", ...] = ()
    """The same claim where its runs have another level, the largest scale first."""

    @property
    def label(self) -> str:
        """Its name in the report: `N1`."""
        return self.name.upper()

    @property
    def heading(self) -> str:
        """The heading of its section."""
        return f"{self.label}: {self.claim.title}"

    @property
    def anchor(self) -> str:
        """The Markdown anchor of that section."""
        return anchor(self.heading)

    @property
    def drawn(self) -> bool:
        """Whether there is something to draw: runs behind a verdict, or numbers that need no runs."""
        return bool(self.level) or any(part.level for part in self.judgement.parts)

    @property
    def scale(self) -> str:
        """The scale of the runs; empty if there are none."""
        return self.results[0].scale if self.level else ""

    @property
    def level(self) -> str:
        """The level of the runs; empty if there are none."""
        return "" if self.verdict_of is ClaimVerdict.NOT_RUN else str(self.judgement.level)

    @property
    def verdict_of(self) -> ClaimVerdict:
        """The verdict."""
        return self.judgement.verdict

    @property
    def verdict(self) -> str:
        """The verdict in the words of its level."""
        return self.judgement.words

    @property
    def sentence(self) -> str:
        """The verdict as a sentence."""
        return self.claim.says(self.judgement)

    @property
    def seen(self) -> str:
        """What the runs showed; empty without a verdict, or if a remark says why it is open."""
        if self.verdict_of is ClaimVerdict.HOLDS:
            return self.claim.finds
        seen = self.claim.seen(self.judgement)
        return f"{seen[0].upper()}{seen[1:]}." if seen else ""

    @property
    def settled(self) -> bool:
        """Whether it has enough seeds for a verdict, including an open one."""
        return self.verdict_of not in (ClaimVerdict.NOT_RUN, ClaimVerdict.TOO_FEW)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on its numbers; none if there is no verdict."""
        return (*self.shares, *self.judgement.notes) if self.settled else ()

    @property
    def shares(self) -> tuple[str, ...]:
        """What the rule and what the rank loses, in sentences; none if there is no verdict."""
        return self.judgement.shares if self.settled else ()

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Sentences on each verdict at another level, with its notes."""
        return tuple(" ".join([other.at_its_level, *other.notes]) for other in self.others)

    @property
    def at_its_level(self) -> str:
        """A sentence on the verdict at its level, with the deciding number."""
        return f"At level {self.level} it is {self.verdict}: {self.deciding}."

    @property
    def named(self) -> str:
        """Label, linked to its section, verdict and level, in brackets."""
        return f"([{self.label}](#{self.anchor}): **{self.verdict}**, level {self.level})"

    @property
    def deciding(self) -> str:
        """The deciding condition with its number; empty without runs."""
        part = self.judgement.deciding
        return f"{part.condition}: {part.number.partition(MORE)[0]}" if part.n else ""

    def shown(self, part: Part) -> str:
        """A condition with its number, its verdict, and its level if it has its own."""
        own = f" (level {part.level})" if part.level else ""
        return f"{part.condition}: {part.number or 'no runs'}, {self.judgement.words_of(part)}{own}"

    def figure(self, start: Path) -> Path:
        """The path of its figure without the suffix, relative to the folder `start`."""
        return Path(os.path.relpath(FOLDER / self.results[0].scale / "figures" / self.claim.figure, start))

    def page(self, start: Path) -> Path:
        """The path of its scale's report, relative to the folder `start`."""
        return Path(os.path.relpath(FOLDER / self.results[0].scale / "REPORT.md", start))


def anchor(heading: str) -> str:
    """The Markdown anchor of a heading."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def judge_claims(folder: Path = FOLDER, scale: str | None = None) -> list[Finding]:
    """The claims in the paper's order, judged by the records in `folder`.

    At `scale` these are the claims whose experiments have it; without one, all claims, each at its best scale.
    """
    claims = {name: CLAIMS.get(name) for name in CLAIMS.names()}
    if scale is None:
        best = {name: _judge(name, claim, results_for(claim, folder)) for name, claim in claims.items()}
        at_scales = [finding for each in recorded_scales(folder) for finding in judge_claims(folder, each)]
        judgements = [replace(finding, others=_others(finding, at_scales)) for finding in best.values()]
    else:
        judgements = [
            _judge(name, claim, tuple(results(each, scale, folder) for each in claim.experiments))
            for name, claim in claims.items()
            if all(scale in experiment(each).scales for each in claim.experiments)
        ]
    return [finding for _, group in topics(judgements) for finding in group]


def _judge(name: str, claim: Claim, found: tuple[Results, ...]) -> Finding:
    return Finding(name, claim, found, judged(claim, *found))


def _others(finding: Finding, at_scales: Sequence[Finding]) -> tuple[Finding, ...]:
    found: dict[str, Finding] = {}
    for other in at_scales:
        if other.name == finding.name and other.settled and other.level != finding.level:
            found.setdefault(other.level, other)
    return tuple(found.values())


def topics(findings: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """The topics in the paper's order, each with its findings among those given."""
    by_name = {finding.name: finding for finding in findings}
    for topic, claims in TOPICS.items():
        yield topic, [by_name.pop(name) for name in claims if name in by_name]
    yield BEYOND, [*by_name.values()]
