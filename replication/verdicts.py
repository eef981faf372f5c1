"""How verdicts on the parts of a claim, which `claims/` decides, combine; their words, and the level of evidence."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum, StrEnum
from inspect import signature
from typing import Any

from bench.config import UNMEASURED, Config
from bench.data import sizes
from bench.models import MODELS
from bench.sweeps.experiments import Experiment, alternative
from bench.training.length import examples


class Level(StrEnum):
    """How close runs are to the paper's, the closest first."""

    PAPER = "paper"
    """The authors' network, data, optimiser settings, batch size and epochs."""
    FULL = "full"
    """The authors' network and data in full size, at least a fifth of their epochs."""
    REDUCED = "reduced"
    """Anything less: slim networks, short schedules, other data."""


FULL_EPOCHS = 1 / 5
"""Share of the authors' epochs from which on runs count as full."""
NOISE = ("dropout", "drop_path")
"""Options of networks that act only in training: without them it is the same network."""
MEASURES: dict[str, Any] = {"log_every": 1} | UNMEASURED
"""Fields of `Config` that set what is measured during training, at their defaults."""
BESIDE_TRAINING: dict[str, Any] = {"seed": 0, "rank": None} | MEASURES
"""Fields of `Config` that are not settings of the authors: what is varied, and what is measured during training."""


class ClaimVerdict(Enum):
    """A claim against its records."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "open"
    TOO_FEW = "too few seeds"
    NOT_RUN = "not run"

    def words(self, level: Level) -> str:
        """The verdict in the words of a level: only runs close to the paper's support a claim, or do not."""
        near = {self.HOLDS: "supported", self.FAILS: "not supported", self.OPEN: "inconclusive"}
        far = {self.HOLDS: "holds at reduced scale", self.FAILS: "does not hold at reduced scale", self.OPEN: "open"}
        return (far if level is Level.REDUCED else near).get(self, self.value)


def all_of(parts: Iterable[ClaimVerdict]) -> ClaimVerdict:
    """The verdict on a claim from those on its parts: it is run once all parts are, and holds only if all do."""
    found = set(parts)
    weaker = (ClaimVerdict.NOT_RUN, ClaimVerdict.TOO_FEW, ClaimVerdict.FAILS, ClaimVerdict.OPEN)
    return next(
        (verdict for verdict in weaker if verdict in found), ClaimVerdict.HOLDS if found else ClaimVerdict.NOT_RUN
    )


def lowest(levels: Iterable[Level]) -> Level:
    """The level of runs of several levels together; `reduced` if there are none."""
    return max(levels, key=[*Level].index, default=Level.REDUCED)


def highest(levels: Iterable[Level]) -> Level:
    """The level of runs that several experiments share: the closest to the paper's that any of them gives."""
    return min(levels, key=[*Level].index)


def level_of(config: Config, authors: Sequence[Config]) -> Level:
    """The level of a run, given `authors`, the runs of its experiment at the authors' settings (`authors_runs`).

    The linear network has one level: its theory holds at every scale.
    """
    if MODELS.get(config.model).regression:
        return Level.PAPER
    authors = [run for run in authors if run.dataset == config.dataset]
    if any(_training(config) == _training(run) for run in authors if run.rule == config.rule):
        return Level.PAPER
    alike = [run for run in authors if _network(run) == _network(config)]
    near = any(_passes(config) >= FULL_EPOCHS * _passes(run) for run in alike)
    return Level.FULL if near else Level.REDUCED


def authors_runs(found: Experiment) -> list[Config]:
    """One run of each setting of an experiment at scale paper; empty if it has no such scale."""
    if "paper" not in found.scales:
        return []
    one_seed = replace(found, scales={"paper": replace(found.scales["paper"], seeds=1)})
    return one_seed.configs("paper", alternative(0))


def _training(config: Config) -> Config:
    return replace(config, **BESIDE_TRAINING)


def _network(config: Config) -> dict[str, Any]:
    """All options that define the network of a run."""
    _, *parameters = signature(MODELS.get(config.model)).parameters.values()
    options = {parameter.name: parameter.default for parameter in parameters} | config.model_options
    return {name: value for name, value in options.items() if name not in NOISE}


def _passes(config: Config) -> float:
    """How often a run sees each image of the training split, on average."""
    return config.epochs * examples(config) / sizes(config.dataset).train
