"""The code that a result came from: the package's own files, the commit of its repository, and the plug-ins used."""

import hashlib
import os
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from inspect import getfile
from pathlib import Path
from typing import Any, Literal, cast

from bench.config import Config, parse
from bench.data import DATASETS, parse_name
from bench.models import MODELS
from bench.registry import Registry
from bench.rules import RULES

Kind = Literal["rule", "model", "dataset"]
PACKAGE = Path(__file__).parents[1]
SUFFIXES = (".py", ".yaml")
"""Suffixes of the files that count as code: modules and protocols."""
REPOSITORY_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""Variables that git sets when it runs a hook, and that would point it to another repository."""


@dataclass(frozen=True)
class Plugin:
    """A rule, network or dataset from another distribution."""

    kind: Kind
    name: str
    distribution: str
    version: str
    digest: str
    """SHA-256, 16 hexadecimal digits, of its module's file."""


@dataclass(frozen=True)
class Source:
    """The code of a run, as recorded."""

    digest: str
    """SHA-256, 16 hexadecimal digits, of the `sha256sum` output for the package's files, sorted by path."""
    commit: str | None
    """The commit of the package's own repository, 12 hexadecimal digits; None if it is in none."""
    dirty: bool
    """Whether the package's files differ from the commit: edited, deleted, or untracked."""
    plugins: tuple[Plugin, ...] = ()

    def __str__(self) -> str:
        """The commit, with `+` if the code differs from it, or else the digest; then the plug-ins."""
        used = dict.fromkeys(f" {plugin.distribution} {plugin.version}" for plugin in self.plugins)
        return f"{self.commit or self.digest}{'+' * self.dirty}{''.join(used)}"


@cache
def source() -> Source:
    """The code of this process, without plug-ins. Read only once, so call it when the process starts."""
    return code_in(PACKAGE)


def source_of(config: Config) -> Source:
    """The code of a run. Raises `UsageError` if its rule, network or dataset is not installed."""
    plugins = (_plugin(registry, name) for registry, name in used(config).items())
    return replace(source(), plugins=tuple(plugin for plugin in plugins if plugin))


def used(config: Config) -> dict[Registry, str]:
    """The names of the network, rule and dataset of a run. Raises `UsageError` for an invalid dataset suffix."""
    return {MODELS: config.model, RULES: config.rule, DATASETS: parse_name(config.dataset)[0]}


def shown(recorded: dict[str, Any] | str) -> str:
    """The source of a record as a string; in older records it is a string, the output of `git describe`."""
    return recorded if isinstance(recorded, str) else str(parse(Source, recorded, "source"))


def is_uncommitted(recorded: dict[str, Any] | str) -> bool:
    """Whether the code that made a record differed from its commit."""
    return "+" in shown(recorded).partition(" ")[0]


def code_in(package: Path) -> Source:
    """The code in a package's folder."""
    return Source(_digest(package), *_revision(package))


def _digest(package: Path) -> str:
    files = (path for path in package.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    names = sorted(path.relative_to(package).as_posix() for path in files)
    lines = (f"{_sha256(package / name)}  {name}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _revision(package: Path) -> tuple[str | None, bool]:
    """The commit of the repository that has `package` at its root and tracks it, and whether the code differs."""
    try:
        if _git(package, "ls-files", "--full-name", "__init__.py") != f"{package.name}/__init__.py\n":
            return None, False
        commit = _git(package, "rev-parse", "HEAD")[:12]
        changes = _git(
            package, "status", "--porcelain", "-z", "--no-renames", "--ignored", "--untracked-files=all", "."
        )
    except (OSError, subprocess.CalledProcessError):
        return None, False
    return commit, any(change.endswith(SUFFIXES) for change in changes.split("\0"))


def _git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in REPOSITORY_OF_A_HOOK}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


@cache
def _plugin(registry: Registry, name: str) -> Plugin | None:
    """The plug-in called `name`; None if it is built in."""
    module, plugin = registry.module(name), registry.plugin(name)
    if plugin is None:
        return None
    assert plugin.dist is not None, "an entry point that was found belongs to a distribution"
    file = _sha256(Path(getfile(module)))[:16]
    return Plugin(cast(Kind, registry.kind), name, plugin.dist.name, plugin.dist.version, file)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
