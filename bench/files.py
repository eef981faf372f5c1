"""Files that are written completely or not at all."""

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

from bench.errors import CannotWrite, UsageError

CHECKSUM = hashlib.sha256().digest_size
"""Bytes of the checksum at the start of a checked file."""


class Damaged(Exception):
    """The file does not contain what was written."""


def write_atomically(path: Path, write: Callable[[BufferedRandom], object]) -> None:
    """Calls `write` on a temporary file next to `path`, flushes it to disk and renames it to `path`.

    Links are followed. Raises `CannotWrite` if the disk is full, the name is too long or not that of a regular file,
    and the like. `clear_leftovers` removes the temporary files of killed writers.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # other machines use the same process ids
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
    """`write_atomically` for bytes."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """`write_atomically` for text, encoded as UTF-8."""
    write_bytes(path, text.encode())


def clear_leftovers(folder: Path) -> None:
    """Removes temporary files of killed writers in and below a folder; files still being written are kept."""
    for path in folder.glob("**/.*.tmp"):
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _held(path: Path) -> BufferedRandom:
    """A new file at `path`, locked (if the file system has locks) so that others see that it is being written."""
    while True:
        file = path.open("w+b")
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():  # not removed before it was locked
            return file
        file.close()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a lock on a folder, created if it does not exist, as far as the file system has locks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be written ({error.strerror or error})") from error
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_writable_name(path: Path) -> bool:
    """Whether a file may be written to `path`: there is a regular file or nothing. Links are followed."""
    path = Path(os.path.realpath(path))
    return path.is_file() or not os.path.lexists(path)


def write_checked(path: Path, write: Callable[[BufferedRandom], object]) -> None:
    """Like `write_atomically`, with the SHA-256 of the content at the start of the file."""

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
    """A file of `write_checked`, positioned at its content. Raises `Damaged` if the content does not match the
    checksum.
    """
    with path.open("rb") as file:
        checksum = file.read(CHECKSUM)
        if hashlib.file_digest(file, "sha256").digest() != checksum:
            raise Damaged("its checksum does not match its content")
        file.seek(CHECKSUM)
        yield file


def cache_folder() -> Path:
    """BENCH_CACHE, or this program's folder in the user's cache: XDG_CACHE_HOME, or ~/.cache."""
    if chosen := os.environ.get("BENCH_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "low-dimensional-feedback-bench"
    except RuntimeError:
        raise UsageError("no home folder to keep the cache in: set BENCH_CACHE to a folder") from None
