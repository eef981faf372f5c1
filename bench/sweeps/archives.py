"""Extracts the records of a results folder from an archive, and nothing else, whatever the archive contains."""

import gzip
import io
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from bench.errors import cut, one_line

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}"
MEMBER = re.compile(rf"(?:\./)*((?!\.\.?/)[^/]+/)?({NAME}/records/{NAME}/{NAME}\.json|{NAME}/tuned/{NAME}\.json)")
"""Paths that are extracted: the folder that contains the scales, if any, and the path of a file within it."""
MEMBERS = 100_000
"""Maximum number of files and folders in an archive."""
MEMBER_BYTES = 16 << 20
"""Maximum size of an extracted file in bytes; a record has about 50 kB."""
ARCHIVE_BYTES = 4 << 30
"""Maximum size of an unpacked archive in bytes."""
HEADER_BYTES = 1 << 20
"""Maximum size of a file's header in a tar, including long names, in bytes."""


class BadArchive(Exception):
    """The whole archive is refused; the message says why."""


def extract(source: Path, folder: Path) -> None:
    """Writes the records and tuned settings of a .tar, .tar.gz or .zip to an empty folder, arranged by scale.

    All other files are skipped. Raises `BadArchive`, and errors of `tarfile`, `zipfile`, `gzip` and the file system.
    """
    roots, written = set(), 0
    for number, (name, file) in enumerate(_zipped(source) if _is_zip(source) else _tarred(source)):
        if number == MEMBERS:
            raise BadArchive(f"it contains more than {MEMBERS:,} files")
        if not (match := MEMBER.fullmatch(name)):
            continue
        if file is None:
            raise BadArchive(f"{_shown(name)} is a link or a device, not a file")
        root, place = match.groups()
        roots.add(root)
        if len(roots) > 1:
            raise BadArchive("it contains several results folders")
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with file, path.open("xb") as target:
                shutil.copyfileobj(file, target)
                written += target.tell()
        except FileExistsError:
            raise BadArchive(f"it contains {_shown(name)} twice") from None
        _check_whole(written)


def _shown(name: str) -> str:
    return one_line(cut(name))


def _is_zip(source: Path) -> bool:
    """Decided by the first bytes: `zipfile.is_zipfile` would also accept a tar that contains a zip."""
    with source.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _zipped(source: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and content of each member of a zip; None for anything but a regular file."""
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            taken = MEMBER.fullmatch(member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if taken and kind in (0, stat.S_IFREG):
                _check_size(member.filename, member.file_size)
                yield member.filename, archive.open(member)
            else:
                yield member.filename, None


def _tarred(source: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and content of each member of a tar, plain or gzipped; None for anything but a regular file."""
    with _uncompressed(source) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive:
        while member := archive.next():
            if member.size < 0 or member.issparse():
                raise BadArchive(f"{_shown(member.name)} is a sparse file, or has no size")
            if MEMBER.fullmatch(member.name) and member.isreg():
                _check_size(member.name, member.size)
                yield member.name, archive.extractfile(member)
            else:
                yield member.name, None
            stream.left = HEADER_BYTES + member.size


def _check_size(name: str, size: int) -> None:
    if size > MEMBER_BYTES:
        raise BadArchive(f"{_shown(name)} has {size:,} bytes, more than {MEMBER_BYTES:,}")


def _check_whole(size: int) -> None:
    if size > ARCHIVE_BYTES:
        raise BadArchive(f"it has more than {ARCHIVE_BYTES:,} bytes unpacked; leave the checkpoints out")


class _Header(tarfile.TarInfo):
    """`tarfile` takes a damaged header for the end of the archive; here it is an error."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in the stubs
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged or truncated: {error}") from None


class _Stream(io.BufferedIOBase):
    """The bytes of a tar, limited in number: up to the end of the next header, and in total."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self.file = file
        self.left = HEADER_BYTES
        self.total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        self.total += len(content)
        if self.left < 0:
            raise BadArchive(f"a header has more than {HEADER_BYTES:,} bytes")
        _check_whole(self.total)
        return content


@contextmanager
def _uncompressed(source: Path) -> Iterator[_Stream]:
    with source.open("rb") as file:
        if file.peek(2)[:2] == b"\x1f\x8b":
            with gzip.open(file) as content:
                yield _Stream(content)
        else:
            yield _Stream(file)
