"""Errors from bad input: one clear line, exit status 2."""

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches

EXTRAS = {
    "data": ("PIL", "datasets", "pyarrow", "sklearn", "torchvision"),
    "report": ("jinja2", "markdown_it", "markupsafe", "matplotlib", "pandas", "seaborn", "threadpoolctl"),
    "pipeline": ("dvc",),
    "cluster": ("submitit",),
    "test": ("hypothesis", "pytest", "timm", "transformers"),
}
"""Import names of the packages that only an extra of this project installs."""
LONGEST = 200
"""Longest value shown in a message, in characters."""


class UsageError(ValueError):
    """Bad input that the user can correct; the command line prints it as one line and exits with status 2."""


class CannotWrite(UsageError):
    """A file cannot be written, for example because the disk is full, so later results could not be saved either."""


def one_line(text: object) -> str:
    """`text` as one line for a terminal, with unprintable characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shown(value: object) -> str:
    """The repr of `value`, truncated if it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to format integers of more than a few thousand digits
        text = f"a number of {value.bit_length()} bits" if isinstance(value, int) else "a value with such a number"
    return cut(text)


def cut(text: str) -> str:
    """`text`, truncated if it is long."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def unknown(kind: str, name: object, allowed: Iterable[str], near: str | None = None) -> UsageError:
    """The error for a name that does not exist, with a suggestion: `near`, or the most similar name."""
    allowed, written = list(allowed), shown(name)
    near = near or next(iter(get_close_matches(written.strip("'"), allowed, n=1, cutoff=0.4)), None)
    hint = f" (did you mean {near!r}?)" if near else ""
    return UsageError(f"unknown {kind} {written}{hint}; expected: {', '.join(allowed) or 'none'}")


def not_installed(error: ModuleNotFoundError) -> UsageError:
    """The error for a package that is not installed. A missing module of this project is a bug, raised unchanged."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "bench", "replication"):
        raise error
    extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
    remedy = f": pip install 'low-dimensional-feedback-bench[{extra}]'" if extra else ""
    return UsageError(f"this needs the package {package!r}, which is not installed{remedy}")


def run_command(command: Callable[[], None]) -> None:
    """Runs a command line; bad input gives one line on standard error and exit status 2."""
    try:
        return command()
    except UsageError as error:
        message = error
    except ModuleNotFoundError as error:
        message = not_installed(error)
    print("error:", one_line(message), file=sys.stderr)
    sys.exit(2)
