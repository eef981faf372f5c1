"""Finds rules, networks and datasets: one module each, here or in another package that declares an entry point."""

import pkgutil
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from inspect import get_annotations, isabstract
from types import ModuleType
from typing import Any, Generic, TypeVar

from bench.declared import Undeclared, declared
from bench.errors import UsageError, one_line, shown, unknown

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{,63}")
"""Pattern of plug-in names, which become part of file names."""


class Registry(Generic[T]):
    """The modules of a package by name; `fa_lowrank.py` is `fa-lowrank`. Modules are imported only by `get`.

    Modules whose names start with an underscore, and `base`, do not count. A module offers the attribute named after
    the kind (`RULE`, `MODEL`, `DATASET`). Plug-ins are modules that other packages declare as entry points in the group
    `bench.rules`, `bench.models` or `bench.datasets`: `fa-sparse = "my_bench.fa_sparse"`.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        base: str = "",
        classes: bool = True,
        tried: Callable[[Any], object] = lambda offered: None,
    ) -> None:
        """`base` names the class in the package's `base` module; plug-ins offer subclasses or instances of it.

        `tried` is called with what a plug-in offers, and raises an error for one that cannot be used.
        """
        self.tried = tried
        self.kind = kind
        self.package = package
        self.base = base
        self.classes = classes
        self._warnings: set[str] = set()

    def built_in(self) -> list[str]:
        """Sorted names of the package's own modules, without importing them."""
        return list(_modules(self.package))

    def names(self) -> list[str]:
        """Sorted names of all modules, without importing them. Raises `UsageError` if two have the same name."""
        return sorted(self._found())

    def module(self, name: str) -> ModuleType:
        """The module called `name`. Raises `UsageError` if it does not exist or is a plug-in that cannot be used."""
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
            raise UsageError(f"{where} cannot be imported: {_in_a_line(error)}") from error
        offered = getattr(module, self.kind.upper(), None)
        if not self._is_one(offered):
            raise UsageError(f"{where} has no {self.kind.upper()}{self._expected()}")
        if lacking := self._lacking(offered):
            raise UsageError(f"{where}: its {self.kind.upper()} does not set {', '.join(lacking)}")
        try:
            self.tried(offered)
        except Exception as error:
            raise UsageError(f"{where} cannot be used: {_in_a_line(error)}") from error
        return module

    @property
    def _base_class(self) -> type:
        return getattr(import_module(f"{self.package}.base"), self.base)

    def _lacking(self, offered: object) -> list[str]:
        """The attributes that the base declares without a value and that `offered` does not set."""
        if not self.base:
            return []
        return [name for name in get_annotations(self._base_class) if not hasattr(offered, name)]

    def _is_one(self, offered: object) -> bool:
        """Whether `offered` is of the type that the kind requires."""
        if not self.base:
            return offered is not None
        if self.classes:
            return isinstance(offered, type) and issubclass(offered, self._base_class) and not isabstract(offered)
        return isinstance(offered, self._base_class)

    def _expected(self) -> str:
        return f" that is {'a subclass' if self.classes else 'an instance'} of {self.base}" if self.base else ""

    def get(self, name: str) -> T:
        """The object offered by the module called `name`. Raises `UsageError` as `module` does."""
        return getattr(self.module(name), self.kind.upper())

    def declared(self, name: str, attribute: str, inherited: bool = True) -> Any:
        """A class attribute of what the module called `name` offers, without importing it if the source contains the
        value.

        See `bench.declared`. Raises `UsageError` as `module` does.
        """
        if name in self.built_in() and self._path(name) not in sys.modules:
            with suppress(Undeclared):
                return declared(self._path(name), self.kind.upper(), attribute, inherited)
        return getattr(self.get(name), attribute)

    def name_of(self, offered: type) -> str:
        """The name under which a built-in module offers a class; for any other class, its own. Imports nothing."""
        return next((name for name in self.built_in() if self._path(name) == offered.__module__), offered.__name__)

    def check(self, name: str) -> None:
        """Raises `UsageError` if no module is called `name`, or if it is a plug-in that cannot be used."""
        if name not in self.built_in():
            self.module(name)

    def all(self) -> dict[str, T]:
        """The objects offered by all modules, by name. Unusable plug-ins are skipped, with one warning."""
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
        """The entry point of the module called `name`; None if it is built in or does not exist."""
        return self._found().get(name)

    def _path(self, name: str) -> str:
        """The import path of a built-in module."""
        return f"{self.package}.{name.replace('-', '_')}"

    def _found(self) -> dict[str, EntryPoint | None]:
        """The plug-in of each name; None for built-in names."""
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
    """Entry points of the distributions on `path` (sys.path); cached, because finding them is too slow to repeat."""
    return entry_points(group=group)


def _in_a_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
