"""Files that are either whole or not there."""

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import BinaryIO

from bench.errors import CannotWrite

CHECKSUM = hashlib.sha256().digest_size
"""Bytes of the checksum in front of a file that has one."""


class Damaged(Exception):
    """A file that is not what was written."""


def write_atomically(path: Path, write: Callable[[BufferedRandom], object]) -> None:
    """Calls `write` on a temporary file beside `path`, flushes it to disk and renames it to `path`.

    A link is followed. Raises `CannotWrite` where the disk is full, the name too long or no file's, and the like. What
    a writer that was killed leaves behind, `clear_leftovers` removes.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # other machines have the same process ids
    try:
        if not is_writable_name(path):
            raise FileExistsError(errno.EEXIST, "not a regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _held(temporary) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror or error})") from error


def write_bytes(path: Path, content: bytes) -> None:
    """`write_atomically` of bytes that are known."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """`write_atomically` of a text, as UTF-8."""
    write_bytes(path, text.encode())


def clear_leftovers(folder: Path) -> None:
    """Removes the temporary files in and below a folder whose writers were killed; one that is being written stays."""
    for path in folder.glob("**/.*.tmp"):
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _held(path: Path) -> BufferedRandom:
    """A new file at `path` that others see is being written, on a file system with locks."""
    while True:
        file = path.open("w+b")
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():  # not cleared before it was locked
            return file
        file.close()


def is_writable_name(path: Path) -> bool:
    """Whether a file may come to `path`: a regular one is there, or nothing. Links are followed."""
    path = Path(os.path.realpath(path))
    return path.is_file() or not os.path.lexists(path)


def write_checked(path: Path, write: Callable[[BufferedRandom], object]) -> None:
    """As `write_atomically`, with the SHA-256 of what is written in front of it."""

    def checked(file: BufferedRandom) -> None:
        file.write(bytes(CHECKSUM))
        write(file)
        file.seek(CHECKSUM)
        checksum = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)
        file.write(checksum)

    write_atomically(path, checked)


@contextmanager
def open_checked(path: Path) -> Iterator[BinaryIO]:
    """A file of `write_checked`, at the start of what was written. Raises `Damaged` where that is not what is there."""
    with path.open("rb") as file:
        checksum = file.read(CHECKSUM)
        if hashlib.file_digest(file, "sha256").digest() != checksum:
            raise Damaged("its checksum does not match its content")
        file.seek(CHECKSUM)
        yield file
