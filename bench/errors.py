"""Bad input: one clear line, exit status 2."""

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class UsageError(Exception):
    """Input that a user can correct; the command line prints it as one line and exits with 2."""


def unknown(kind: str, name: object, allowed: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest one that does."""
    allowed = list(allowed)
    near = get_close_matches(str(name), allowed, n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return UsageError(f"unknown {kind} {name!r}{hint}; allowed: {', '.join(allowed)}")


def not_installed(error: ModuleNotFoundError) -> UsageError:
    """The error for a package that is not here. A missing module of this project is a defect, raised as it is."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "bench", "replication"):
        raise error
    return UsageError(f"this needs the package {package!r}, which is not installed")


def run_command(command: Callable[[], None]) -> None:
    """Runs a command line; bad input is one line on standard error and exit status 2."""
    try:
        return command()
    except UsageError as error:
        message = error
    except ModuleNotFoundError as error:
        message = not_installed(error)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
