"""Reads class attributes from source code, so that a light command need not import the class, and torch with it."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.abc import InspectLoader
from importlib.util import find_spec
from typing import Any


class Undeclared(Exception):
    """The value cannot be determined from the source; the class must be imported."""


@cache
def declared(module: str, name: str, attribute: str, inherited: bool = True) -> Any:
    """The value of a class attribute written as a literal, in the class or in the nearest base that has it.

    `name` is the class in `module`, or a variable that refers to it, such as RULE. If the attribute is not `inherited`,
    only the class itself and the root base are searched. Raises `Undeclared`.
    """
    chain = list(_bases(module, name))
    if not inherited:
        chain = [chain[0], chain[-1]]
    for described in chain:
        for node in reversed(described.body):
            if isinstance(node, ast.FunctionDef) and node.name == attribute:
                raise Undeclared(attribute)
            if (value := _assigned(node, attribute)) is not None:
                try:
                    return ast.literal_eval(value)
                except ValueError:
                    raise Undeclared(attribute) from None
    raise Undeclared(attribute)


def _bases(module: str, name: str) -> Iterator[ast.ClassDef]:
    """The class and its bases in this package; of several bases, only the first one that counts."""
    module, described = _class(module, name)
    yield described
    while len(described.bases) == 1 and isinstance(described.bases[0], ast.Name):
        try:
            module, described = _class(module, described.bases[0].id)
        except Undeclared:  # a base from another package
            return
        yield described


def _class(module: str, name: str) -> tuple[str, ast.ClassDef]:
    """The definition of the class that `name` refers to in `module`, and the module it is defined in."""
    for node in reversed(_tree(module).body):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(value := _assigned(node, name), ast.Name):
            return _class(module, value.id)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bench."):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _class(node.module, alias.name)
    raise Undeclared(name)


def _assigned(node: ast.stmt, name: str) -> ast.expr | None:
    """The value that a statement assigns to `name`; None if it assigns none."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
    return node.value if named and isinstance(node, ast.Assign | ast.AnnAssign) else None


@cache
def _tree(module: str) -> ast.Module:
    spec = find_spec(module)
    source = spec.loader.get_source(module) if spec and isinstance(spec.loader, InspectLoader) else None
    if source is None:
        raise Undeclared(module)
    return ast.parse(source)
