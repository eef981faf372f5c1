"""How a process that trains is set up, and how it is asked to pause."""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt(3)."""


def train_alone() -> None:
    """One thread, so that a record does not depend on how many runs go on at once; freed memory is kept.

    By default glibc gives the memory of large tensors back when they are freed, and each step then has the kernel
    clear the pages of its gradients anew, which can take a sixth of the step. Other C libraries stay as they are.
    """
    import torch

    torch.set_num_threads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25)  # older ones allow 32 MiB at most
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as batch systems send it: what was running has paused, or a second one came."""


_asked = False


def asked_to_pause() -> bool:
    """Whether SIGTERM came to this process, under `pausing`."""
    return _asked


@contextmanager
def pausing() -> Iterator[None]:
    """SIGTERM asks this process to pause, as the end of a budget does; a second one raises `Terminated` at once."""
    global _asked

    def heard(number: int, frame: FrameType | None) -> None:
        if asked_to_pause():
            raise Terminated
        pause()

    before = signal.signal(signal.SIGTERM, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked = False


def pause(*_: object) -> None:
    """Asks this process to pause. A worker has it for its handler of SIGTERM, as its sweep hears the second one."""
    global _asked
    _asked = True
