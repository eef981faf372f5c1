"""The part of a document that is generated, between two marks."""

from pathlib import Path

from bench.errors import UsageError

Marks = tuple[str, str]


def split(path: Path, marks: Marks, what: str) -> tuple[str, str, str]:
    """The text before the first mark, between the marks, and after the second.

    Raises `UsageError`, which calls the part `what`, if a mark is missing.
    """
    before, _, rest = path.read_text().partition(marks[0])
    inside, end, after = rest.partition(marks[1])
    if not end:
        raise UsageError(f"{path}: the marks around {what} are missing: {' and '.join(marks)}")
    return before, inside, after


def joined(before: str, inside: str, after: str, marks: Marks) -> str:
    """The document with `inside` between the marks."""
    return f"{before}{marks[0]}\n\n{inside}\n{marks[1]}{after}"
