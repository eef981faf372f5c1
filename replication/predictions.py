"""Predictions of linear theory for a recorded run, from the run's own teacher and initial matrices.

Solutions of the matrix ODE are kept in the user's cache, in the folder `theory` next to the decoded images, each under
a digest of its inputs and of the code that solved it; a damaged file is solved again.
"""

import hashlib
import inspect
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from zipfile import BadZipFile

import numpy as np
import scipy
import torch

from bench.config import Config, parse
from bench.data.base import Data, Split
from bench.data.linear_teacher import INPUTS, OUTPUTS, teacher
from bench.errors import CannotWrite, UsageError
from bench.files import cache_folder, write_atomically
from bench.records.store import Record
from bench.training.learner import build
from replication import theory
from replication.theory import Trajectory, matrix_ode

_solved: dict[tuple[str, tuple[float, ...]], Trajectory] = {}


def teacher_of(record: Record) -> np.ndarray:
    """The teacher T (64, 128) of a run."""
    rank = int(record["config"]["dataset"].partition(":")[2])
    return teacher(rank, record["config"]["seed"]).numpy()


def times(record: Record) -> np.ndarray:
    """Steps at which the history has entries; a step is an epoch, because the batch is the whole sample."""
    return np.array([entry["epoch"] for entry in record["history"]], dtype=float)


def simulated_modes(record: Record) -> np.ndarray:
    """Recorded strengths of the teacher's nonzero modes, (times, modes)."""
    return np.array([entry["mode_strengths"] for entry in record["history"]])


def ode(record: Record) -> Trajectory:
    """The solution of the matrix ODE from the run's start, with its rates, at the times of its history."""
    key = record["digest"], tuple(times(record))
    if key not in _solved:
        config = parse(Config, record["config"], "configuration")
        learner = build(config, _moments(teacher_of(record), config.dataset))
        second = learner.layers["B1"]
        _solved[key] = _kept(
            teacher=teacher_of(record),
            w1=learner.network.get_parameter("first.weight").detach().numpy(),
            w2=second.weight.detach().numpy(),
            p=second.feedback["P"].detach().numpy() if "P" in second.feedback else None,
            q=second.feedback["Q"].detach().numpy() if "Q" in second.feedback else None,
            rule=config.rule,
            rate=config.lr,
            feedback_rate=config.lr * config.feedback_rate,
            decay=config.lr * config.weight_decay,
            times=times(record),
        )
    return _solved[key]


def _moments(teacher: np.ndarray, dataset: str) -> Data:
    """Points with the second moments of the theory, E[x x'] = I and E[y x'] = T: enough to build a network."""
    points = Split(torch.eye(INPUTS, dtype=torch.float64), torch.from_numpy(teacher.T))
    return Data(dataset, points, points, OUTPUTS, {})


def _kept(**inputs: Any) -> Trajectory:
    """`matrix_ode` of `inputs`, from the cache if it contains the solution; an unwritable cache is ignored."""
    name = f"theory/{_key(inputs)}.npz"
    with suppress(UsageError, OSError, ValueError, TypeError, BadZipFile), np.load(cache_folder() / name) as kept:
        return Trajectory(**kept)
    found = matrix_ode(**inputs)
    with suppress(UsageError, CannotWrite):
        write_atomically(cache_folder() / name, lambda file: np.savez(file, **asdict(found)))
    return found


def _key(inputs: dict[str, Any]) -> str:
    """A digest of the inputs, of the module that solves the ODE, and of the version of the solver."""
    digest = hashlib.sha256(f"{inspect.getsource(theory)} {scipy.__version__}".encode())
    for name, value in inputs.items():
        known = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
        digest.update(f"{name} {np.shape(value)} ".encode() + known)
    return digest.hexdigest()[:32]


def largest_gap(record: Record, predicted: np.ndarray) -> float:
    """Largest difference of the recorded mode strengths from `predicted`, in percent of the largest singular value."""
    found = simulated_modes(record)
    largest = np.linalg.norm(teacher_of(record), 2)
    return 100 * float(np.abs(found - predicted[:, : found.shape[1]]).max() / largest)
