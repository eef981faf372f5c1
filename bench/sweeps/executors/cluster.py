"""Cluster files: what a job may use, and how runs are packed into jobs."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.config import Config, read_yaml
from bench.errors import UsageError, shown, unknown
from bench.sweeps.groups import cut, parts

EXECUTORS = ("slurm", "local", "debug")
OWN = ("executor", "pack")
"""Keys that submitit does not know."""
KEPT = ("job_name", "nodes", "ntasks_per_node", "num_gpus", "wckey", "stderr_to_stdout", "use_srun")
"""Keys of submitit that may not be set: a job is one process and is found by its name."""


@dataclass(frozen=True)
class Cluster:
    """The content of a cluster file."""

    path: Path
    executor: Literal["slurm", "local", "debug"]
    time: float
    """Minutes after which a job ends."""
    pack: float
    """Minutes of training packed into a job."""
    parameters: dict[str, Any]
    """The parameters for submitit, including `time`."""

    @property
    def at_once(self) -> int:
        """Maximum number of simultaneous jobs."""
        return self.parameters.get("array_parallelism", 256)

    def of_submitit(self, folder: Path, name: str, requeues: int) -> Any:
        """A submitit executor that keeps its files in `folder`. Raises `ValueError` for an invalid parameter."""
        import submitit

        if self.executor == "debug":
            return submitit.DebugExecutor(folder)
        if self.executor == "local":
            local = submitit.LocalExecutor(folder, max_num_timeout=requeues)
            local.update_parameters(timeout_min=self.time, **_of_local(self.parameters))
            return local
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=requeues)
        slurm.update_parameters(job_name=name, **self.parameters)
        return slurm


def _of_local(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: parameters[key] for key in ("gpus_per_node", "signal_delay_s", "setup") if key in parameters}


def read_cluster(path: Path) -> Cluster:
    """The cluster file at `path`. Raises `UsageError` if it is invalid, or if Slurm is not installed."""
    from submitit import SlurmExecutor

    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected keys, found {shown(content)}")
    allowed = [*OWN, *sorted(SlurmExecutor._valid_parameters() - set(KEPT))]
    for key in content:
        if key not in allowed:
            raise UsageError(f"{path}: {unknown('key', key, allowed)}")
    executor = content.get("executor", "slurm")
    if executor not in EXECUTORS:
        raise UsageError(f"{path}: {unknown('executor', executor, EXECUTORS)}")
    if executor == "slurm" and not shutil.which("sbatch"):
        raise UsageError(f"{path}: sbatch not found; expected: a machine that can submit Slurm jobs")
    if "time" not in content:
        raise UsageError(f"{path}: key 'time' is missing; expected: minutes after which a job ends")
    time: Any = content["time"]
    pack: Any = content.get("pack", time)
    for key, value in (("time", time), ("pack", pack)):
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise UsageError(f"{path}: {key}: {shown(value)} is not allowed; expected: minutes, above 0")
    for key in ("array_parallelism", "cpus_per_task"):
        number = content.get(key, 1)
        if type(number) is not int or number < 1:
            raise UsageError(f"{path}: {key}: {shown(number)} is not allowed; expected: a whole number from 1")
    if pack > time:
        raise UsageError(f"{path}: pack: {pack:g} is above time: {time:g}; expected: at most that")
    parameters = {key: value for key, value in content.items() if key not in OWN}
    return Cluster(path, executor, time, pack, parameters)


def packed(
    configs: Sequence[Config],
    population: int | None,
    cluster: Cluster,
    seconds: Mapping[str, float],
    workers: int,
) -> list[list[Config]]:
    """The runs of each job, in order: programs that together take `pack` minutes of `workers` processes.

    A program without an estimate gets its own job; one that takes longer is cut, down to one run at least. Raises
    `UsageError` if the time limit is too short for one run.
    """
    longest = max((seconds[config.digest] for config in configs if config.digest in seconds), default=0.0)
    if longest > 60 * cluster.time:
        least = math.ceil(longest / 60)
        raise UsageError(
            f"{cluster.path}: time: {cluster.time:g} minutes are too short for one run; expected: {least} or more"
        )
    room = 60 * cluster.pack * workers
    jobs: list[list[Config]] = []
    left = 0.0
    for program in parts(configs, population):
        takes = [seconds.get(config.digest, math.inf) for config in program]
        if math.isinf(sum(takes)):
            jobs.append(program)
            left = 0.0
            continue
        for part in cut(program, max(1, int(room / max(takes)))):
            needed = sum(seconds[config.digest] for config in part)
            if needed > left:
                jobs.append([])
                left = room
            jobs[-1] += part
            left -= needed
    return jobs
