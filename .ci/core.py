"""Links what the core of a wheel needs from this environment into a new one, so that nothing is downloaded twice.

`core.py WHEEL ENVIRONMENT`: the distributions that the wheel's own metadata require without an extra, those that they
require in turn, and nothing else. `pip check` then says whether any is missing.
"""

import sys
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def core(wheel: Path) -> set[str]:
    """The names of the distributions."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        required = HeaderParser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist")
    found: set[str] = set()
    todo = needed(required, {""})
    while todo:
        name, extras = todo.pop()
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(name)
        todo += [each for each in needed(requires, extras | {""}) if each[0] not in found or each[1]]
    return found


def needed(required: Iterable[str], extras: set[str]) -> list[tuple[str, set[str]]]:
    """The distributions, with the extras asked of them, that hold on this platform for some of `extras`."""
    requirements = map(Requirement, required)
    return [
        (each.name, each.extras)
        for each in requirements
        if not each.marker or any(each.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def link(name: str, target: Path) -> None:
    """Links the top-level files and folders of a distribution into another site-packages."""
    files = distribution(name).files or []
    tops = {file.parts[0] for file in files} - {"..", "bin", "__pycache__"}
    for top in tops:
        if not (target / top).exists():
            (target / top).symlink_to(Path(distribution(name).locate_file(top)))


if __name__ == "__main__":
    wheel, environment = map(Path, sys.argv[1:])
    (packages,) = environment.glob("lib/python*/site-packages")
    for name in sorted(core(wheel)):
        link(name, packages)
