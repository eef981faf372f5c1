"""Finds the rules, networks and datasets: one module each, here or in another package that has it as an entry point."""

import pkgutil
import re
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from inspect import isabstract
from types import ModuleType
from typing import Any, Generic, TypeVar

from bench.declared import Undeclared, declared
from bench.errors import UsageError, one_line, shown, unknown

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{,63}")
"""Of a plug-in: it becomes part of file names."""


class Registry(Generic[T]):
    """The modules of a package by name; `fa_lowrank.py` is `fa-lowrank`. Importing waits until `get`.

    A module takes part when its name starts with no underscore and is not `base`; what it offers is its attribute
    named after the kind (`RULE`, `MODEL`, `DATASET`). Plug-ins are modules that other packages name as entry points, in
    the group `bench.rules`, `bench.models` or `bench.datasets`: `fa-sparse = "my_bench.fa_sparse"`.
    """

    def __init__(self, kind: str, package: str, base: str = "", classes: bool = True) -> None:
        """`base` is the class, in the package's `base`, of which plug-ins offer subclasses, or instances."""
        self.kind = kind
        self.package = package
        self.base = base
        self.classes = classes
        self._warnings: set[str] = set()

    def built_in(self) -> list[str]:
        """The names of the package's own modules, sorted, none imported."""
        return list(_modules(self.package))

    def names(self) -> list[str]:
        """The names of all modules, sorted, none imported. Raises `UsageError` where two have one name."""
        return sorted(self._found())

    def module(self, name: str) -> ModuleType:
        """The module called `name`. Raises `UsageError` where there is none, or a plug-in that cannot be used."""
        found = self._found()
        if name not in found:
            raise unknown(self.kind, name, sorted(found))
        plugin = found[name]
        if plugin is None:
            return import_module(self._path(name))
        where = f"{self.kind} {shown(name)}: plug-in {shown(plugin.value)[1:-1]}"
        if not NAME.fullmatch(name):
            raise UsageError(f"{where} has a name that is not allowed; expected: letters, digits, - and _, at most 64")
        try:
            module = plugin.load()
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"{where} cannot be imported: {reason}") from error
        if not self._is_one(getattr(module, self.kind.upper(), None)):
            raise UsageError(f"{where} has no {self.kind.upper()}{self._expected()}")
        return module

    def _is_one(self, offered: object) -> bool:
        """Whether a plug-in offers what the kind needs."""
        if not self.base:
            return offered is not None
        base = getattr(import_module(f"{self.package}.base"), self.base)
        if self.classes:
            return isinstance(offered, type) and issubclass(offered, base) and not isabstract(offered)
        return isinstance(offered, base)

    def _expected(self) -> str:
        return f" that is {'a subclass' if self.classes else 'an instance'} of {self.base}" if self.base else ""

    def get(self, name: str) -> T:
        """What the module called `name` offers. Raises `UsageError` as `module` does."""
        return getattr(self.module(name), self.kind.upper())

    def declared(self, name: str, attribute: str, inherited: bool = True) -> Any:
        """An attribute of the class that the module called `name` offers, without an import where its source tells it.

        As `bench.declared` has it. Raises `UsageError` as `module` does.
        """
        if name in self.built_in() and self._path(name) not in sys.modules:
            with suppress(Undeclared):
                return declared(self._path(name), self.kind.upper(), attribute, inherited)
        return getattr(self.get(name), attribute)

    def check(self, name: str) -> None:
        """Raises `UsageError` where no module is called `name`, or a plug-in that cannot be used."""
        if name not in self.built_in():
            self.module(name)

    def all(self) -> dict[str, T]:
        """What all modules offer, by name. Plug-ins that cannot be used are left out, with a warning once."""
        offered = {}
        for name in self.names():
            try:
                offered[name] = self.get(name)
            except UsageError as error:
                warning = f"warning: skipped: {one_line(error)}"
                if warning not in self._warnings:
                    print(warning, file=sys.stderr)
                self._warnings.add(warning)
        return offered

    def plugin(self, name: str) -> EntryPoint | None:
        """The entry point of the module called `name`, None where it is built in or does not exist."""
        return self._found().get(name)

    def _path(self, name: str) -> str:
        """The module of a built-in name, as Python imports it."""
        return f"{self.package}.{name.replace('-', '_')}"

    def _found(self) -> dict[str, EntryPoint | None]:
        """The plug-in of each name, None where it is built in."""
        found: dict[str, EntryPoint | None] = dict.fromkeys(self.built_in())
        for plugin in _entry_points(f"bench.{self.kind}s", tuple(sys.path)):
            if plugin.name in found:
                other = found[plugin.name]
                first = "the built-in one" if other is None else f"plug-in {other.value}"
                raise UsageError(f"two {self.kind}s are called {plugin.name!r}: {first} and plug-in {plugin.value}")
            found[plugin.name] = plugin
        return found


@cache
def _modules(package: str) -> tuple[str, ...]:
    modules = pkgutil.iter_modules(import_module(package).__path__)
    return tuple(sorted(m.name.replace("_", "-") for m in modules if m.name != "base" and not m.name.startswith("_")))


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> EntryPoints:
    """Those of the distributions on `path`, the interpreter's; finding them takes too long to do it for each name."""
    return entry_points(group=group)
