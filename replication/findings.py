"""A claim with the records that it was judged by, and how the report names and shows what they say."""

import os
from dataclasses import dataclass
from pathlib import Path

from replication.claims.base import MORE, Claim, Judgement, Part
from replication.results import FOLDER, Results
from replication.stats import ClaimVerdict


@dataclass(frozen=True)
class Finding:
    """A claim, the records that it was judged by, one `Results` per experiment, and what they say."""

    name: str
    claim: Claim
    results: tuple[Results, ...]
    judgement: Judgement

    @property
    def label(self) -> str:
        """As the report calls it."""
        return self.name.upper()

    @property
    def heading(self) -> str:
        """That of its section."""
        return f"{self.label}: {self.claim.title}"

    @property
    def anchor(self) -> str:
        """Where a link in Markdown finds that section."""
        kept = "".join(c for c in self.heading.lower() if c.isalnum() or c in " -_")
        return kept.replace(" ", "-")

    @property
    def recorded(self) -> bool:
        """Whether its experiments have any record."""
        return any(found.recorded for found in self.results)

    @property
    def drawn(self) -> bool:
        """Whether there is something to draw: records, or numbers that need none."""
        return self.recorded or any(part.level for part in self.judgement.parts)

    @property
    def scale(self) -> str:
        """That of the records; empty where there are none."""
        return self.results[0].scale if self.recorded else ""

    @property
    def level(self) -> str:
        """That of the runs; empty where there are none."""
        return "" if self.verdict_of is ClaimVerdict.NOT_RUN else str(self.judgement.level)

    @property
    def verdict_of(self) -> ClaimVerdict:
        """The verdict."""
        return self.judgement.verdict

    @property
    def verdict(self) -> str:
        """In the words of its level."""
        return self.judgement.words

    @property
    def sentence(self) -> str:
        """In a sentence of plain words."""
        return self.claim.says(self.judgement)

    @property
    def named(self) -> str:
        """Label, verdict and level in brackets."""
        return f"({self.label}: **{self.verdict}**, level {self.level})"

    @property
    def deciding(self) -> str:
        """The condition that decides, with its number alone; empty without runs."""
        part = self.judgement.deciding
        return f"{part.condition}: {part.number.partition(MORE)[0]}" if part.n else ""

    def shown(self, part: Part) -> str:
        """A condition with its number, its verdict, and its level where it has its own."""
        own = f" (level {part.level})" if part.level else ""
        return f"{part.condition}: {part.number or 'no runs'}, {self.judgement.words_of(part)}{own}"

    def figure(self, start: Path) -> Path:
        """Its figure without the suffix, from the folder `start`."""
        return Path(os.path.relpath(FOLDER / self.results[0].scale / "figures" / self.claim.figure, start))
