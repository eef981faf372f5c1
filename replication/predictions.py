"""What linear theory predicts for a recorded run, from the run's own teacher and initial matrices."""

import numpy as np

from bench.config import Config, parse
from bench.data import load_once
from bench.data.linear_teacher import teacher
from bench.records.store import Record
from bench.training.learner import build
from replication.theory import Trajectory, matrix_ode

_solved: dict[str, Trajectory] = {}


def teacher_of(record: Record) -> np.ndarray:
    """The teacher T (64, 128) of a run."""
    rank = int(record["config"]["dataset"].partition(":")[2])
    return teacher(rank, record["config"]["seed"]).numpy()


def times(record: Record) -> np.ndarray:
    """Steps at which the history has entries; a step is an epoch, as the batch is the whole sample."""
    return np.array([entry["epoch"] for entry in record["history"]], dtype=float)


def simulated_modes(record: Record) -> np.ndarray:
    """Recorded strengths of the teacher's nonzero modes, (times, modes)."""
    return np.array([entry["mode_strengths"] for entry in record["history"]])


def ode(record: Record) -> Trajectory:
    """The matrix ODE from the run's start, at its rates and at the times of its history."""
    if record["digest"] not in _solved:
        config = parse(Config, record["config"], "configuration")
        learner = build(config, load_once(config.dataset, config.seed))
        second = learner.layers["B1"]
        _solved[record["digest"]] = matrix_ode(
            teacher_of(record),
            learner.network.first.weight.detach().numpy(),
            second.weight.detach().numpy(),
            *(second.feedback[name].detach().numpy() if name in second.feedback else None for name in "PQ"),
            rule=config.rule,
            rate=config.lr,
            feedback_rate=config.lr * config.feedback_rate,
            decay=config.lr * config.weight_decay,
            times=times(record),
        )
    return _solved[record["digest"]]


def largest_gap(record: Record, predicted: np.ndarray) -> float:
    """Largest distance of the recorded mode strengths from `predicted`, in percent of the largest singular value."""
    found = simulated_modes(record)
    largest = np.linalg.norm(teacher_of(record), 2)
    return 100 * float(np.abs(found - predicted[:, : found.shape[1]]).max() / largest)
