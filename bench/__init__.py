"""A benchmark of learning rules. `bench.convert` puts the layers of any network under a rule, `bench.revert` back."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.conversion import convert, revert

__all__ = ["convert", "revert"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    from bench import conversion

    return getattr(conversion, name)
