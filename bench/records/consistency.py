"""Checks whether the numbers of a record are possible for a run of its configuration."""

import math
from collections.abc import Set
from typing import Any

from bench.config import Config
from bench.data import DATASETS, parse_name, sizes
from bench.errors import UsageError
from bench.models import MODELS
from bench.records.schema import LARGEST
from bench.training.length import FIRST_LOSSES

AN_IMAGE = 1e-3
"""Rounding tolerance, in images, for an accuracy to be a whole number of them."""
NUMBERS = (float, int, type(None))
"""Types of a measurement; None if it was not finite."""
TRAINING = frozenset({"epoch", "loss", "accuracy", "test", "layers"})
"""Keys that the training loop writes to a history entry; all others are the network's own measurements."""


def check_numbers(record: dict[str, Any], config: Config) -> None:
    """Raises `UsageError` if a run of `config` cannot have produced the numbers of `record`, whose fields are valid."""
    if record["status"] != "failed":
        _Run(record, config).check()


class _Run:
    """A run that ended, and what its configuration implies.

    train, judged: numbers of training examples and of examples it is judged on; None for a group of classes of unknown
    size.
    """

    train: int | None
    judged: int | None

    def __init__(self, record: dict[str, Any], config: Config) -> None:
        self.record, self.config = record, config
        self.diverged = record["status"] == "diverged"
        self.labelled = not MODELS.declared(config.model, "regression")
        self.train, self.judged = _examples(config)
        self.epoch = self.train and min(self.train, config.epoch_examples or self.train)

    def check(self) -> None:
        data, final = self.record["data"]["name"], self.record["final"]
        if data != self.config.dataset:
            raise _wrong("data", data, self.config.dataset)
        self.check_history(self.record["history"])
        self.check_first_losses(self.record["first_losses"])
        if not self.diverged:
            self.check_test("final", final)
        elif final:
            raise _wrong("final", final, "nothing, as the run diverged")

    def check_history(self, history: list[Any]) -> None:
        """There is an entry for each logged epoch, up to the last epoch or to the one in which the run diverged."""
        if not history or not all(isinstance(entry, dict) for entry in history):
            raise _wrong("history", history, "an entry for each logged epoch")
        own, before = history[0].keys() - TRAINING, 0
        first = 0 if self.config.measure_every or history[0].get("epoch") == 0 else 1
        for n, entry in enumerate(history, first):
            if before == self.config.epochs:
                raise UsageError(f"history: continues after epoch {before}, the last")
            epoch = min(n * self.config.log_every, self.config.epochs)
            if type(entry.get("epoch")) is not int or entry["epoch"] != epoch:
                raise _wrong("history: epoch", entry.get("epoch"), f"{epoch}")
            due = own | self.due(epoch)
            if entry.keys() != due:
                raise _wrong(f"history: epoch {epoch}", sorted(entry), ", ".join(sorted(due)))
            self.check_entry(entry, epoch - before, may_be_lost=self.diverged and entry is history[-1])
            before = epoch
        if before < self.config.epochs and history[-1].get("loss", 0) is not None:
            raise UsageError(f"history: ends in epoch {before} of {self.config.epochs}")

    def due(self, epoch: int) -> Set[str]:
        """The keys that the training loop writes for an epoch."""
        config, last = self.config, epoch == self.config.epochs
        says = {
            "loss": epoch > 0,
            "accuracy": epoch > 0 and self.labelled,
            "test": config.test_every and epoch > 0 and epoch % config.test_every == 0 and not last,
            "layers": config.measure_every and (epoch % config.measure_every == 0 or last),
        }
        return {"epoch", *(name for name, said in says.items() if said)}

    def check_entry(self, entry: dict[str, Any], epochs: int, may_be_lost: bool) -> None:
        """The entry has the required keys; `epochs` is the number of epochs since the previous entry."""
        where = f"history: epoch {entry['epoch']}"
        if not _is_measure(entry):
            raise _wrong(where, entry, "numbers")
        if "loss" in entry and not (may_be_lost and entry["loss"] is None):
            _check_loss(where, entry["loss"])
        if "accuracy" in entry:
            _check_accuracy(where, entry["accuracy"], self.epoch and self.epoch * epochs)
        if "test" in entry:
            self.check_test(f"{where}: test", entry["test"], may_be_lost=True)
        if "layers" in entry and not _is_table(entry["layers"]):
            raise _wrong(f"{where}: layers", entry["layers"], "measures by layer")

    def check_test(self, where: str, test: Any, may_be_lost: bool = False) -> None:
        """Loss, which may be infinite during training, and accuracy on the examples that the run is judged on."""
        measured = ["accuracy", "loss"] if self.labelled else ["loss"]
        if not isinstance(test, dict) or sorted(test) != measured:
            raise _wrong(where, test, " and ".join(measured))
        if not (may_be_lost and test["loss"] is None):
            _check_loss(where, test["loss"])
        if self.labelled:
            _check_accuracy(where, test["accuracy"], self.judged)

    def check_first_losses(self, losses: list[Any]) -> None:
        """Losses of the first steps: as many as are recorded, or as the epochs in the history have."""
        least, most = 1, FIRST_LOSSES
        if self.epoch and self.train:
            steps = math.ceil(self.epoch / (self.config.batch_size or self.train)) * self.record["history"][-1]["epoch"]
            least = most = min(steps, FIRST_LOSSES)
        if not least <= len(losses) <= most:
            raise UsageError(f"first_losses: has {len(losses)} steps, expected: {least} to {most}")
        for loss in losses:
            if not (self.diverged and loss is None):
                _check_loss("first_losses", loss)
        if not self.labelled and losses[0] == 0:
            raise _wrong("first_losses", losses[0], "more than 0 in a regression's first step")


def _examples(config: Config) -> tuple[int, int] | tuple[None, None]:
    name, part = parse_name(config.dataset)
    dataset = DATASETS.get(name)
    if part and not dataset.drawn:
        if (part.group + 1) * part.size > dataset.outputs:
            raise _wrong("dataset", config.dataset, f"some of its {dataset.outputs} classes")
        if not dataset.balanced:
            return None, None
    _, train, test = sizes(config.dataset)
    held_out = train // 10
    return (train, test) if config.split == "test" else (train - held_out, held_out)


def _check_loss(where: str, loss: Any) -> None:
    if not _is_number(loss) or loss < 0:
        raise _wrong(f"{where}: loss", loss, "finite, 0 or more")


def _check_accuracy(where: str, accuracy: Any, images: int | None) -> None:
    if not _is_number(accuracy) or not 0 <= accuracy <= 100:
        raise _wrong(f"{where}: accuracy", accuracy, "0 to 100")
    if images is not None:
        correct = accuracy * images / 100
        if abs(correct - round(correct)) > AN_IMAGE:
            raise _wrong(f"{where}: accuracy", accuracy, f"the share of a whole number of {images} images")


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < LARGEST)


def _is_measure(value: Any) -> bool:
    """Whether a value is one of `NUMBERS`, or lists or objects of these."""
    values = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
    others = [item for item in values if type(item) not in NUMBERS]
    return all(isinstance(item, list | dict) and _is_measure(item) for item in others)


def _is_table(layers: Any) -> bool:
    return isinstance(layers, dict) and all(isinstance(measures, dict) for measures in layers.values())


def _wrong(where: str, found: Any, expected: str) -> UsageError:
    return UsageError(f"{where}: {found!r} is not allowed; expected: {expected}")
