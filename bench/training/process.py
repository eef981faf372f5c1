"""How a training process is set up and asked to pause, and the hardware that it runs on."""

import ctypes
import os
import platform
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt(3)."""


def train_alone() -> None:
    """Uses one thread, so that a record does not depend on how many runs are in progress; keeps freed memory.

    Numbers below 1.2e-38 count as zero: a strong decay takes the weights of dead units there, where a CPU multiplies
    them about a hundred times slower, and a run of the MLP took ten times as long.

    By default glibc returns the memory of large tensors when they are freed, and in each step the kernel then has to
    clear the pages of the gradients again, which can take a sixth of the step. Other C libraries are not changed.
    """
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25)  # older versions allow at most 32 MiB
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


RECORDING = threading.Lock()
"""Held from when a run's record is written until its checkpoint is gone; a worker whose sweep is gone waits for it."""
PAUSE = (signal.SIGTERM, signal.SIGUSR2)
"""Signals that batch systems send before ending a job: SIGTERM for preemption, SIGUSR2 (from submitit) at its limit."""


_heard = 0


class Terminated(KeyboardInterrupt):
    """A signal in `PAUSE` arrived (`signal` is the first one): running work has paused, or a second signal arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = _heard


def asked_to_pause() -> bool:
    """Whether a signal in `PAUSE` has reached this process, under `pausing`."""
    return bool(_heard)


@contextmanager
def pausing() -> Iterator[None]:
    """A signal in `PAUSE` asks this process to pause, like the end of a budget; a second one raises `Terminated`."""
    global _heard

    def heard(number: int, frame: FrameType | None) -> None:
        if asked_to_pause():
            raise Terminated
        pause(number)

    before = {number: signal.signal(number, heard) for number in PAUSE}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _heard = 0


def pause(number: int, *_: object) -> None:
    """Asks this process to pause. Workers use it as handler for `PAUSE`; their sweep handles a second signal."""
    global _heard
    _heard = number


def cores() -> int:
    """Number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not available on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@cache
def processor() -> str:
    """The name of the CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory(device: str) -> int:
    """Peak memory in bytes: on a GPU, of tensors since the run began; on the CPU, of the process since it started."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
