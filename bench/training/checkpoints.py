"""Checkpoints: the state of runs in a file, with a checksum and the runs it belongs to."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.files import open_checked, write_checked

if TYPE_CHECKING:
    from bench.training.outcome import Outcome

KEPT = ("status", "first_losses", "history", "seconds")
"""Fields of an outcome."""


class UnusableCheckpoint(Exception):
    """Runs cannot resume from this checkpoint; the message says why."""


def save(path: Path, runs: dict[str, Any], epoch: int, state: dict[str, Any], outcomes: "list[Outcome]") -> None:
    """Writes a checkpoint of `runs`: the state in `state`, and what is known of each outcome."""
    kept = [{name: getattr(outcome, name) for name in KEPT} for outcome in outcomes]
    states = {name: part.state_dict() for name, part in state.items()}
    content = {"runs": runs, "epoch": epoch, "outcomes": kept, "states": states}
    write_checked(path, lambda file: torch.save(content, file))


def restore(path: Path, runs: dict[str, Any], state: dict[str, Any], outcomes: "list[Outcome]") -> int:
    """Restores a checkpoint in place; returns the epoch. Raises `UnusableCheckpoint`, leaving `state` inconsistent."""
    try:
        with open_checked(path) as file:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        if saved["runs"] != runs:
            raise ValueError("it belongs to other runs or other data")
        for name, part in state.items():
            part.load_state_dict(saved["states"][name])
        for tensor, moments in state["optimiser"].state.items():
            if any(torch.is_tensor(m) and m.shape not in ((), tensor.shape) for m in moments.values()):
                raise ValueError("the optimiser's state has different shapes")
        for outcome, kept in zip(outcomes, saved["outcomes"], strict=True):
            for name in KEPT:
                setattr(outcome, name, kept[name])
        return int(saved["epoch"])
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UnusableCheckpoint(f"{type(error).__name__}: {error}") from error
