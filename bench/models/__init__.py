"""The networks, one file each. `MODELS.get(name)` is the network's class."""

from typing import TYPE_CHECKING

from bench.registry import Registry

if TYPE_CHECKING:
    from bench.models.base import Network

MODELS: "Registry[type[Network]]" = Registry("model", "bench.models", "Network")
