"""The verdict on a claim."""

from collections.abc import Iterable
from enum import StrEnum


class ClaimVerdict(StrEnum):
    """A claim against its records."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


def all_of(parts: Iterable[ClaimVerdict]) -> ClaimVerdict:
    """The verdict on a claim from those on its parts: supported only where each is, and inconclusive until all ran."""
    found = set(parts)
    if found <= {ClaimVerdict.NOT_RUN}:
        return ClaimVerdict.NOT_RUN
    if ClaimVerdict.NOT_RUN in found:
        return ClaimVerdict.INCONCLUSIVE
    weaker = (ClaimVerdict.NOT_SUPPORTED, ClaimVerdict.INCONCLUSIVE)
    return next((verdict for verdict in weaker if verdict in found), ClaimVerdict.SUPPORTED)
