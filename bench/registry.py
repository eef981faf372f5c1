"""Finds the rules, networks and datasets: one module each, named by its file."""

import pkgutil
from importlib import import_module
from typing import Generic, TypeVar

from bench.errors import unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """The modules of a package by name; `fa_lowrank.py` is `fa-lowrank`. Importing waits until `get`.

    A module takes part when its name starts with no underscore and is not `base`; what it offers is its attribute
    named after the kind (`RULE`, `MODEL`, `DATASET`).
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package

    def names(self) -> list[str]:
        """All names, sorted, without importing any of the modules."""
        modules = pkgutil.iter_modules(import_module(self.package).__path__)
        return sorted(m.name.replace("_", "-") for m in modules if m.name != "base" and not m.name.startswith("_"))

    def get(self, name: str) -> T:
        """What the module called `name` offers. Raises `UsageError` where there is none."""
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        module = import_module(f"{self.package}.{name.replace('-', '_')}")
        return getattr(module, self.kind.upper())
