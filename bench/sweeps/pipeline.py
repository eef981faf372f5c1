"""The training stages of a DVC pipeline, and running them in dependency order without DVC."""

import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from bench.errors import UsageError
from bench.sweeps.experiments import tuning_of

PATIENCE = 1.0
"""Seconds between checks on running stages."""
TRAINS = ["python", "-m", "bench"]
"""How the command of a training stage starts."""


class Stage(NamedTuple):
    """A tuning or a sweep."""

    name: str
    """The stage's name in DVC."""
    arguments: list[str]
    """Arguments of `bench`."""
    after: list[str]
    """Names of the stages whose results it reads."""

    @property
    def records(self) -> str:
        """The experiment or tuning that its records belong to."""
        return tuning_of(self.option("--model")) if self.arguments[0] == "tune" else self.arguments[1]

    def option(self, name: str) -> str | None:
        """The first value of an option; None if it is not given."""
        return next((value for option, value in pairwise(self.arguments) if option == name), None)


def stages(file: str) -> list[Stage]:
    """The training stages in a pipeline's file, each after its dependencies.

    Raises `UsageError` if DVC is not installed.
    """
    try:
        from dvc.repo import Repo
    except ImportError:
        raise UsageError("the pipeline needs DVC, which is not installed") from None
    with Repo() as repo:
        graph = repo.index.graph
        all_of_file = [stage for stage in repo.index.stages if stage.path_in_repo == file]
        commands = {stage.addressing: shlex.split(stage.cmd) for stage in all_of_file}
        before = {stage.addressing: [other.addressing for other in graph.successors(stage)] for stage in all_of_file}
    left = {
        name: Stage(name, command[len(TRAINS) :], [other for other in before[name] if other in commands])
        for name, command in commands.items()
        if command[: len(TRAINS)] == TRAINS
    }
    ordered: dict[str, Stage] = {}
    while left:
        ready = [stage for stage in left.values() if all(name in ordered for name in stage.after)]
        for stage in ready:
            ordered[stage.name] = left.pop(stage.name)
    return list(ordered.values())


def train(
    todo: Sequence[Stage], start: Callable[[Stage], subprocess.Popen], say: Callable[[str], None]
) -> dict[str, int]:
    """Runs stages, each as soon as its dependencies have succeeded, and returns their exit statuses.

    Stages that depend on a failed one are not started.
    """
    running: dict[str, subprocess.Popen] = {}
    ended: dict[str, int] = {}
    while True:
        for stage in todo:
            if stage.name in running or stage.name in ended:
                continue
            if all(ended.get(name) == 0 for name in stage.after):
                running[stage.name] = start(stage)
                say(f"{stage.name}: begun")
        for name, process in list(running.items()):
            if process.poll() is not None:
                ended[name] = process.returncode
                del running[name]
                say(f"{name}: {'ended' if process.returncode == 0 else f'failed, exit status {process.returncode}'}")
        if not running and not _ready(todo, ended):
            return ended
        time.sleep(PATIENCE)


def _ready(todo: Iterable[Stage], ended: dict[str, int]) -> bool:
    return any(s.name not in ended and all(ended.get(name) == 0 for name in s.after) for s in todo)


def last_line(log: Path) -> str:
    """The last nonempty line of a log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
