"""Claims: which process trains a run, so that sweeps on several machines can share a results folder.

A claim is a hard link, which only one process can create, even on network file systems. All claims of a process link to
one file, whose modification time it renews while it lives. A claim is stale, and may be taken over, if it has not been
renewed for `STALE` seconds by the clock of the file system, or if its process is known to be gone.
"""

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

from bench.config import Config, parse
from bench.errors import UsageError
from bench.files import clear_leftovers
from bench.records.store import Store, writable

RENEW = 20.0
"""Seconds between renewals of a process's claims."""
STALE = 300.0
"""Seconds without renewal after which a claim is stale."""


@dataclass(frozen=True)
class Holder:
    """A process that holds claims."""

    machine: str
    """Identifies a set of process ids: host, boot and namespace."""
    host: str
    pid: int
    started: int
    """Clock ticks since boot."""
    job: str
    """Slurm job id; empty outside Slurm."""
    restarts: int
    """How many times Slurm has requeued the job."""

    def __str__(self) -> str:
        """`job 12 on node3`, or `process 345 on node3`."""
        return f"{f'job {self.job}' if self.job else f'process {self.pid}'} on {self.host}"

    def is_gone(self) -> bool:
        """Whether it is known to have ended: a process of this machine, or an earlier start of this same job."""
        me = this_process()
        if self.job and self.job == me.job and self.restarts < me.restarts:
            return True
        return self.machine == me.machine and _started(self.pid) != self.started


UNKNOWN = Holder(machine="", host="an unknown machine", pid=0, started=0, job="", restarts=0)


def this_process() -> Holder:
    """The holder for the current process."""
    job, restarts = os.environ.get("SLURM_JOB_ID", ""), int(os.environ.get("SLURM_RESTART_COUNT", 0))
    return Holder(_machine(), socket.gethostname(), os.getpid(), _started(os.getpid()), job, restarts)


@cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    known = [boot.read_text().strip(), os.readlink(namespace)] if boot.exists() and namespace.is_symlink() else []
    return " ".join([socket.gethostname(), *known])


def _started(pid: int) -> int:
    """When a process of this machine started; 0 if it does not exist or the time is unknown."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if after_name[0] in "ZX" else int(after_name[19])


class Claims:
    """The runs that this process claims in a results folder, until the context ends.

    Raises `UsageError` if the folder cannot be written or its file system has no hard links. `say` is called for each
    stale claim that is taken over.
    """

    def __init__(self, store: Store, say: Callable[[str], None] = lambda line: None) -> None:
        self.store, self.say = store, say
        self.folder = store.folder / "claims"
        self.own = self.folder / f".{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.held: set[Path] = set()
        self.ended = threading.Event()

    def __enter__(self) -> "Claims":
        writable(self.folder)
        try:
            self.own.write_text(json.dumps(asdict(this_process())))
        except OSError as error:
            raise self._unusable(error) from None
        threading.Thread(target=self._renew, daemon=True).start()
        self._clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        for path in list(self.held):
            self._release(path)
        with suppress(OSError):
            self._clear()
        with suppress(OSError):
            self.own.unlink()

    def _renew(self) -> None:
        while not self.ended.wait(RENEW):
            with suppress(OSError):  # a network file system may recover
                os.utime(self.own)

    def take(self, config: Config) -> bool:
        """Claims a run; False if another process has it. It may be recorded by now, so check before training it."""
        path = self._path(config)
        if path in self.held:
            return True
        taken = self._link(path) or (self._is_stale(path, config) and self._link(path))
        if taken:
            self.held.add(path)
        return taken

    def release(self, config: Config) -> None:
        """Releases a run."""
        self._release(self._path(config))

    def holder(self, config: Config) -> str:
        """The holder of a run, in words."""
        found = _read(self._path(config))
        return str(found[0]) if found else "another process"

    def _path(self, config: Config) -> Path:
        return self.folder / self.store.checkpoint([config]).stem

    def _link(self, path: Path) -> bool:
        try:
            os.link(self.own, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._unusable(error) from None
        return True

    def _release(self, path: Path) -> None:
        self.held.discard(path)
        with suppress(OSError):
            if os.path.samefile(path, self.own):
                path.unlink()

    def _is_stale(self, path: Path, config: Config) -> bool:
        """Whether a claim is stale; if so, it has been removed."""
        found = _read(path)
        if found is None:
            return False
        holder, status = found
        if not self._is_dead(holder, status):
            return False
        aside = self.own.with_name(f"{self.own.name}-{secrets.token_hex(4)}")
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return True
        if aside.stat().st_ino != status.st_ino:  # another process took it over in the meantime
            with suppress(FileExistsError):
                os.link(aside, path)
            aside.unlink()
            return False
        aside.unlink()
        self.say(f"{config.slug} was claimed by {holder}, which is gone: taken over")
        return True

    def _is_dead(self, holder: Holder, status: os.stat_result) -> bool:
        os.utime(self.own)
        return holder.is_gone() or self.own.stat().st_mtime - status.st_mtime > STALE

    def _clear(self) -> None:
        """Removes what dead processes left, unless another process is using the folder: its files may lack locks."""
        others = {path: _read(path) for path in self.folder.glob(".*") if path != self.own}
        dead = [path for path, found in others.items() if found is not None and self._is_dead(*found)]
        for path in dead:
            path.unlink(missing_ok=True)
        if len(dead) == len(others):
            clear_leftovers(self.store.folder)

    def _unusable(self, error: OSError) -> UsageError:
        expected = "expected: a writable file system with hard links"
        return UsageError(f"{self.folder}: cannot claim runs there ({error.strerror}); {expected}")


def _read(path: Path) -> tuple[Holder, os.stat_result] | None:
    """The holder of a claim, and the status of its file; None if it has been released."""
    try:
        with path.open() as file:  # opening makes a network file system refresh the times
            status = os.fstat(file.fileno())
            try:
                return parse(Holder, json.load(file), str(path)), status
            except ValueError:
                return UNKNOWN, status
    except FileNotFoundError:
        return None
