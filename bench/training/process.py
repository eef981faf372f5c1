"""How a process that trains is set up, how it is asked to pause, and what it runs on."""

import ctypes
import os
import platform
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt(3)."""


def train_alone() -> None:
    """One thread, so that a record does not depend on how many runs go on at once; freed memory is kept.

    Numbers below 1.2e-38 count as zero: a strong decay takes the weights of dead units there, where a CPU multiplies
    them some hundred times slower, and a run of the MLP took ten times as long.

    By default glibc gives the memory of large tensors back when they are freed, and each step then has the kernel
    clear the pages of its gradients anew, which can take a sixth of the step. Other C libraries stay as they are.
    """
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25)  # older ones allow 32 MiB at most
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


PAUSE = (signal.SIGTERM, signal.SIGUSR2)
"""What batch systems send before they end a job: SIGTERM to preempt it, SIGUSR2 (submitit's choice) at its limit."""


_heard = 0


class Terminated(KeyboardInterrupt):
    """A signal of `PAUSE` came, `signal` the first of them: what was running has paused, or a second one came."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = _heard


def asked_to_pause() -> bool:
    """Whether a signal of `PAUSE` came to this process, under `pausing`."""
    return bool(_heard)


@contextmanager
def pausing() -> Iterator[None]:
    """A signal of `PAUSE` asks this process to pause, as the end of a budget does; a second one raises `Terminated`."""
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
    """Asks this process to pause. A worker has it for its handler of `PAUSE`, as its sweep hears the second one."""
    global _heard
    _heard = number


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@cache
def processor() -> str:
    """The name of the CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory(device: str) -> int:
    """The most bytes that this process had: of tensors on a GPU, since the run began; of all on the CPU, ever."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
