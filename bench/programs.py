"""Which runs train as one program, and how many of them at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.config import Config
from bench.data import is_drawn

if TYPE_CHECKING:
    from bench.data.base import Data

Loader = Callable[[str, int], "Data"]
SHARE = 0.8
"""Of the free memory that a population may take."""


def programs(configs: Sequence[Config], loader: Loader) -> list[list[Config]]:
    """The configurations, in the order of the first of each program: those that differ in seed and rank alone together.

    On its own stays a run whose data are drawn from its seed, and one that cannot be a member (`can_share`).
    """
    from bench.learner import prepare
    from bench.population import can_share

    alike: dict[str, list[Config]] = {}
    for config in configs:
        alike.setdefault(replace(config, seed=0, rank=None).digest, []).append(config)
    found = []
    for group in alike.values():
        first = group[0]
        together = len(group) > 1 and not is_drawn(first.dataset) and can_share(prepare(first, "cpu", loader)[1])
        found += [group] if together else [[config] for config in group]
    return found


def fitting(program: Sequence[Config], device: str, loader: Loader) -> int:
    """How many of a program's runs the free memory of a GPU holds, by the peaks of a step of one and of two of them.

    All of them on the CPU, whose memory is not asked.
    """
    if len(program) == 1 or not device.startswith("cuda"):
        return len(program)
    import torch

    from bench.train import train_together

    peaks = []
    for members in (1, 2):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        free, _ = torch.cuda.mem_get_info()
        train_together(program[:members], device=device, loader=loader, steps=1)
        peaks.append(torch.cuda.max_memory_allocated())
    one, two = peaks
    return min(len(program), max(1, 1 + int((SHARE * free - one) / max(1, two - one))))
