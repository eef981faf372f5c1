"""A benchmark of learning rules. `bench.convert` puts a network's layers under a rule, `bench.revert` restores them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.conversion import convert, revert
    from bench.conversion.coverage import conversion_report
    from bench.layers import Conv2d, Linear, register_layer, register_reader, tell
    from bench.rules.base import Rule

    __version__: str

HOMES = {
    "convert": "conversion",
    "revert": "conversion",
    "conversion_report": "conversion.coverage",
    "Conv2d": "layers",
    "Linear": "layers",
    "register_layer": "layers",
    "register_reader": "layers",
    "tell": "layers",
    "Rule": "rules.base",
}
"""The modules that define the public names; each is imported when one of its names is first used."""
__all__ = [
    "Conv2d",
    "Linear",
    "Rule",
    "__version__",
    "conversion_report",
    "convert",
    "register_layer",
    "register_reader",
    "revert",
    "tell",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in HOMES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(import_module(f"bench.{HOMES[name]}"), name)


def _version() -> str:
    """Version of the installed distribution, or that in pyproject.toml for a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("low-dimensional-feedback-bench")
    except PackageNotFoundError:
        import tomllib
        from pathlib import Path

        return tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]
