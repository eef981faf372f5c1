"""How a process that trains is set up."""

import ctypes

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
