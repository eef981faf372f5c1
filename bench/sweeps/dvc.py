"""Records results in DVC that were not made by `dvc repro`, so that it does not train them again."""

import shlex
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import UsageError
from bench.records.store import Store
from bench.sweeps.experiments import TUNING, experiment
from bench.sweeps.missing import is_final
from bench.sweeps.protocols import searches, tuned_path

if TYPE_CHECKING:
    from dvc.output import Output


class Committed(NamedTuple):
    """A stage, as DVC addresses it; `problem` says why it is not recorded, and is empty if it is."""

    name: str
    problem: str


def commit(store: Store, names: Iterable[str]) -> list[Committed]:
    """Records in DVC the stages that made the records of `names`, experiments or tunings, if none is missing.

    Also records stages that depend on them and are complete. Raises `UsageError` if DVC is not installed.
    """
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
    except ImportError:
        raise UsageError("not installed; install it and run the same import again to record them") from None
    changed = {(store.folder / "records" / name).resolve(): name for name in names}
    changed |= {
        tuned_path(name.removeprefix(TUNING), store.folder.name, store.folder.parent).resolve(): name
        for name in changed.values()
        if name.startswith(TUNING)
    }
    ended = []
    with Repo() as repo:
        for stage in repo.index.stages:
            outputs, inputs = _paths(stage.outs), _paths(stage.deps)
            made = [path.name for path in outputs if path.parent == (store.folder / "records").resolve()]
            if not made or not changed.keys() & (outputs | inputs):
                continue
            problem = _lacks(store, made[0], shlex.split(stage.cmd))
            if not problem:
                try:
                    repo.commit(stage.addressing, force=True)
                except DvcException as error:
                    problem = " ".join(str(error).split())
            if changed.keys() & outputs or not problem:
                ended.append(Committed(stage.addressing, problem))
    return ended


def _paths(outputs: "Iterable[Output]") -> set[Path]:
    return {Path(output.fs_path).resolve() for output in outputs}


def _lacks(store: Store, name: str, command: list[str]) -> str:
    """What is missing of the results that an experiment's or tuning's stage makes; empty if nothing is.

    If claims read the experiment, the runs that they do not read may be missing.
    """
    scale = store.folder.name
    if name.startswith(TUNING):
        rules = {word for option, word in pairwise(command) if option == "--rule"}
        left = sorted(rules - searches(name.removeprefix(TUNING), scale, store.folder.parent).keys())
        return f"nothing is chosen yet for {', '.join(left)}" if left else ""
    runs = experiment(name).recorded(scale, store, needed=True)
    missing = sum(not is_final(record) for _, record in runs)
    return f"{missing} of {len(runs)} runs have no record" if missing else ""
