"""Programs: the runs that train together, how many of them fit on a GPU, and training them into records."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import Config
from bench.data import is_drawn
from bench.errors import CannotWrite, UsageError
from bench.files import write_atomically
from bench.records.store import Record, Store, check_new, failed_record, record_of
from bench.sweeps.missing import is_final
from bench.training.process import RECORDING

if TYPE_CHECKING:
    from torch import nn

    from bench.training.learner import Learner

ONE_BY_ONE = "training together failed, so the runs continue one by one: {}"
MEMORY_SHARE = 0.8
"""Share of a process's GPU memory that a population may use."""


class GpuLost(Exception):
    """A CUDA error, after which every other call of this process to its GPU fails as well."""


def parts(configs: Sequence[Config], population: int | None) -> list[list[Config]]:
    """The runs as programs of at most `population` runs; None sets no limit."""
    if population == 1:
        return cut(configs, 1)
    return [part for program in programs(configs) for part in cut(program, population)]


def programs(configs: Sequence[Config], learner_of: "Callable[[Config], Learner] | None" = None) -> list[list[Config]]:
    """The configurations grouped into programs (those that differ only in seed and rank), ordered by their first runs.

    A run stays alone if its data are drawn from its seed, or if it cannot be a member (`can_share`). With a
    `learner_of`, no data are needed; by default the data are read.
    """
    from bench.training.learner import prepare
    from bench.training.population import can_share

    learner_of = learner_of or (lambda config: prepare(config, "cpu")[1])

    alike: dict[str, list[Config]] = {}
    for config in configs:
        alike.setdefault(replace(config, seed=0, rank=None).digest, []).append(config)
    found = []
    for group in alike.values():
        first = group[0]
        together = len(group) > 1 and not is_drawn(first.dataset) and can_share(learner_of(first))
        found += [group] if together else [[config] for config in group]
    return found


def run(
    config: Config,
    store: Store,
    experiment: str,
    scale: str,
    device: str,
    progress: Callable[[dict[str, Any]], None] = lambda entry: None,
    weights: Path | None = None,
) -> Record:
    """Trains one network and writes its record; resumes from its checkpoint.

    A run that ends with an error keeps its checkpoint and is recorded as failed; for a `UsageError`, which is raised,
    nothing is written. `progress` is called with each entry of the history. `weights` is where the trained network's
    `state_dict` is written, after the record.
    """
    (record,) = train_program([config], store, experiment, scale, device, progress=progress, weights=weights)
    return record


def train_program(
    configs: Sequence[Config],
    store: Store,
    experiment: str,
    scale: str,
    device: str,
    deadline: float = math.inf,
    progress: Callable[[dict[str, Any]], None] = lambda entry: None,
    weights: Path | None = None,
) -> list[Record]:
    """The records of runs trained as one program, not written for paused runs. Several runs raise their error."""
    from bench.training.loop import train_together

    checkpoint = store.checkpoint(configs)
    try:
        outcomes = train_together(configs, device=device, checkpoint=checkpoint, deadline=deadline, progress=progress)
        ended = zip(configs, outcomes, strict=True)
        records = [record_of(config, experiment, scale, device, outcome) for config, outcome in ended]
        for record in records:
            if record["status"] != "paused":
                check_new(record)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        if len(configs) > 1:
            raise
        records = [failed_record(configs[0], experiment, scale, device, _reason(error))]
    has_ended = records[0]["status"] in ("ok", "diverged")
    with RECORDING:
        for config, record in zip(configs, records, strict=True):
            kept = record["status"] == "failed" and is_final(store.find(config, [experiment]))
            if record["status"] != "paused" and not kept:  # a failure replaces no result
                store.write(record, store.path(experiment, config))
        if has_ended:
            checkpoint.unlink(missing_ok=True)
    if has_ended and weights is not None:
        _write_weights(outcomes[0].learner.network, weights)
    return records


def _write_weights(network: "nn.Module", path: Path) -> None:
    import torch

    state = network.cpu().state_dict()
    try:
        write_atomically(path, lambda file: torch.save(state, file))
    except CannotWrite as error:
        raise CannotWrite(f"--save-weights {error}; the run itself is recorded") from None


def train_first(
    program: Sequence[Config],
    most: int | None,
    store: Store,
    experiment: str,
    scale: str,
    device: str,
    deadline: float,
    workers: int = 1,
) -> tuple[list[Record], str]:
    """Trains the first runs of a program, `most` or as many as fit into memory; returns their records and a message.

    If memory runs out, half of them are tried again; if anything else fails, a single run, which may work alone.
    `workers` processes share the GPU's memory. Raises `GpuLost` after recording a single run as failed.
    """
    import torch

    members, said = min(most or len(program), len(program)), ""
    while True:
        try:
            if most is None and not said:
                members = _paused(program, store) or fitting(program, device, workers)
            records = train_program(program[:members], store, experiment, scale, device, deadline)
            _check_gpu(records[0].get("reason", ""))
            return records, said
        except (UsageError, GpuLost):
            raise
        except Exception as error:
            if members > 1:
                store.checkpoint(program[:members]).unlink(missing_ok=True)
            _check_gpu(_reason(error))
            if members == 1:
                raise
            if isinstance(error, torch.OutOfMemoryError):
                members = math.ceil(members / 2)
                said = f"out of memory: {members} runs at a time from here on"
            else:
                members = 1
                said = ONE_BY_ONE.format(_reason(error))


def _paused(program: Sequence[Config], store: Store) -> int:
    """How many of the first runs share a checkpoint; 0 for none."""
    return next((n for n in range(len(program), 0, -1) if store.checkpoint(program[:n]).exists()), 0)


def _check_gpu(reason: str) -> None:
    if "AcceleratorError" in reason or "CUDA error" in reason:
        raise GpuLost(reason)


def fitting(program: Sequence[Config], device: str, workers: int = 1) -> int:
    """How many of a program's runs fit into GPU memory, from the peak memory over two steps of one and of two of them.

    In the second step there is optimiser state in addition to the gradients. Each of `workers` processes gets its share
    of the memory, as far as it is free. On the CPU, all of them, without checking memory.
    """
    if len(program) == 1 or not device.startswith("cuda"):
        return len(program)
    import torch

    from bench.training.loop import train_together

    peaks = []
    for members in (1, 2):
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        train_together(program[:members], device=device, steps=2)
        peaks.append(torch.cuda.max_memory_allocated())
    one, two = peaks
    return min(len(program), max(1, 1 + int((MEMORY_SHARE * min(free, total / workers) - one) / max(1, two - one))))


def cut(program: Sequence[Config], most: int | None) -> list[list[Config]]:
    """The runs in order, in parts of at most `most`; a single part for None."""
    size = most or max(1, len(program))
    return [list(program[start : start + size]) for start in range(0, len(program), size)]


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
