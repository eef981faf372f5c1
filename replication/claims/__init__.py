"""The paper's claims, one file each; `CLAIMS.get(name)` is the claim."""

from typing import TYPE_CHECKING

from bench.registry import Registry

if TYPE_CHECKING:
    from replication.claims.base import Claim

CLAIMS: "Registry[Claim]" = Registry("claim", "replication.claims")
