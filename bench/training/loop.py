"""The training loop, the same for every rule, network and dataset."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from bench.config import Config, stream
from bench.errors import one_line
from bench.training import alignment, dimension
from bench.training.batches import Batches
from bench.training.checkpoints import UnusableCheckpoint, restore, save
from bench.training.graphs import Graph, own_stream
from bench.training.learner import Trainee, build, data_of, step
from bench.training.length import FIRST_LOSSES
from bench.training.optimisers import optimiser_of, scheduler_of, suit_device
from bench.training.outcome import Outcome
from bench.training.population import Population
from bench.training.process import asked_to_pause

CHECKPOINT_SECONDS = 20.0
"""Minimum seconds between checkpoints."""
CHECKPOINT_TIMES = 20
"""Minimum time between checkpoints, as a multiple of the time to write the last one."""
GPU_TEST_BATCH = 1000
"""Minimum number of examples that a GPU tests at once: the host needs as long for a small batch as for a large one."""


@torch.inference_mode()
def evaluate(trainee: Trainee, batches: Batches) -> list[dict[str, float]]:
    """Each member's mean loss and, for labels, accuracy in percent, in eval mode."""
    for member in trainee.members:
        member.network.eval()
    totals = torch.zeros(2, len(trainee.members), dtype=torch.float64, device=batches.split.inputs.device)
    for inputs, targets in batches.in_order():
        loss, outputs = trainee.loss(inputs, targets)
        totals[0] += loss * len(inputs)
        if batches.images:
            totals[1] += (outputs.argmax(-1) == targets).sum(-1)
    means = (totals / len(batches.split)).T.tolist()
    if not batches.images:
        return [{"loss": loss} for loss, _ in means]
    return [{"loss": loss, "accuracy": 100 * correct} for loss, correct in means]


def train(config: Config, **options: Any) -> Outcome:
    """Trains one network: `train_together` of one configuration."""
    (outcome,) = train_together([config], **options)
    return outcome


def train_together(
    configs: Sequence[Config],
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    deadline: float = math.inf,
    progress: Callable[[dict[str, Any]], None] = lambda entry: None,
    steps: int | None = None,
    draws: str = "layers",
) -> list[Outcome]:
    """Trains networks and tests each after the last epoch; nothing is chosen by a test.

    Several configurations must differ only in seed and rank, and their learners each `can_share`; they train as a
    population.

    With `checkpoint`, the state is saved there at the end of an epoch if the last save is old enough. A run that finds
    the file resumes from it and ends with the same numbers to the bit on the CPU. A checkpoint that is damaged or
    belongs to other runs is set aside with a warning, and the runs start from the beginning. Past `deadline` (of
    `time.monotonic`), or when asked to pause, everything is saved and returned as `paused`. `progress` is called with
    each entry of a history. Raises `UsageError` for a configuration that cannot run.

    `steps`, at most `FIRST_LOSSES`, stops after that many, `paused` and unsaved. `draws` names the stream of random
    numbers in the network and the rule (dropout and the like): another name draws other numbers and changes nothing
    else.
    """

    def attempt() -> list[Outcome]:
        with own_stream(device):
            return _train(configs, device, checkpoint, deadline, progress, steps, draws)

    if checkpoint is None:
        return attempt()
    try:
        return attempt()
    except UnusableCheckpoint as error:
        aside = checkpoint.replace(checkpoint.with_suffix(".broken"))
        words = f"{checkpoint.name} cannot be used ({error}) and is now {aside.name}; its runs start from the beginning"
        print("warning: checkpoint", one_line(words), file=sys.stderr)
    return attempt()


def _train(
    configs: Sequence[Config],
    device: str,
    checkpoint: Path | None,
    deadline: float,
    progress: Callable[[dict[str, Any]], None],
    steps: int | None,
    draws: str,
) -> list[Outcome]:
    """Implements `train_together`. Raises `UnusableCheckpoint`."""
    config, program = configs[0], _Program(configs, device)
    program.begin(checkpoint)
    while program.epoch < config.epochs:
        program.train_epoch(draws, steps and steps - program.steps_known)
        if steps is not None and program.steps_known == steps:
            return program.paused()
        if program.epoch % config.log_every and program.epoch < config.epochs:
            continue
        program.log(progress)
        if all(outcome.status == "diverged" for outcome in program.outcomes):
            return program.outcomes
        late = (time.monotonic() > deadline or asked_to_pause()) and program.epoch < config.epochs
        if checkpoint is not None and (late or program.save_is_due):
            program.save(checkpoint)
        if late:
            return program.paused()
    program.finish()
    return program.outcomes


class _Program:
    """Runs that train as one program, and their progress."""

    def __init__(self, configs: Sequence[Config], device: str) -> None:
        config, members = configs[0], len(configs)
        data = data_of(config, device)
        if data.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.learners = [build(each, data) for each in configs]
        for learner in self.learners:
            learner.network.to(device)
            if data.on_gpu and members == 1:  # a population's tensors are stacked
                learner.network.to(memory_format=torch.channels_last)
        self.trainee = Population(self.learners) if members > 1 else self.learners[0]
        self.networks = nn.ModuleList(learner.network for learner in self.learners)
        self.optimiser = optimiser_of(config, self.trainee)
        self.scheduler = scheduler_of(config, self.optimiser)
        self.batches = Batches(data.train, data, config)
        self.judged = Batches(data.test, data, config, least=GPU_TEST_BATCH if data.on_gpu else 0)
        self.graph = Graph() if data.on_gpu else None
        resets = self.learners[0].rule.resets
        self.reset_every = math.ceil(len(self.batches) / resets) if resets else 0
        gpus = torch.cuda.default_generators
        self.generator = gpus[torch.cuda.current_device()] if data.on_gpu else torch.default_generator
        self.outcomes = [Outcome(learner, data, population=members) for learner in self.learners]
        self.totals = torch.zeros(3, members, dtype=torch.float64, device=device)
        """For each member since the last history entry: summed loss, number of examples, number of correct ones."""
        self.state = {"networks": self.networks, "optimiser": self.optimiser, "scheduler": self.scheduler}
        self.runs = {"configs": [each.digest for each in configs], "data": data.sha256}
        self.configs, self.config, self.members, self.epoch = configs, config, members, 0

    def begin(self, checkpoint: Path | None) -> None:
        """Resumes from the checkpoint if there is one, else measures the untrained networks. Starts the clock."""
        if checkpoint is not None and checkpoint.exists():
            self.epoch = restore(checkpoint, self.runs, self.state, self.outcomes)
            suit_device(self.optimiser)
        else:
            for outcome in self.outcomes:
                if measures := self._measures(outcome):
                    outcome.history.append({"epoch": 0, **measures})
        self.saved, self.between_saves = time.monotonic(), CHECKPOINT_SECONDS
        self.started = self.saved - self.members * max(outcome.seconds for outcome in self.outcomes)

    @property
    def steps_known(self) -> int:
        """Number of steps whose losses are known."""
        return max(len(outcome.first_losses) for outcome in self.outcomes)

    def train_epoch(self, draws: str, most: int | None) -> None:
        """Trains the next epoch, or `most` steps of it."""
        self.epoch += 1
        self.networks.train()
        self.generator.manual_seed(stream(self.config.seed, f"{draws} {self.epoch}"))
        generators = (Generator().manual_seed(stream(config.seed, f"epoch {self.epoch}")) for config in self.configs)
        update: Callable[..., Tensor] = self._update
        if self.graph is not None:
            self.graph.forget()  # the learning rates have changed
            update = partial(self.graph.run, update)
        losses: list[Tensor] = []
        wanted = FIRST_LOSSES - self.steps_known
        for number, drawn in enumerate(islice(self.batches.draws(*generators), most), 1):
            loss = update(*drawn)
            if len(losses) < wanted:
                losses.append(loss.clone())
            if self.reset_every and number % self.reset_every == 0:
                for learner in self.learners:
                    learner.reset()
        self.scheduler.step()
        self._keep_first(losses)

    def _update(self, *drawn: Tensor) -> Tensor:
        """Makes a step on the batch `drawn` and adds it to the totals; returns the loss () or (M,)."""
        inputs, targets = self.batches.batch(*drawn)
        loss, outputs = step(self.trainee, self.optimiser, inputs, targets, self.config.clip_gradients)
        examples = outputs.shape[-2]
        losses, seen, correct = self.totals.unbind()
        losses.add_(loss * examples)
        seen.add_(examples)
        if self.batches.images:
            correct.add_((outputs.argmax(-1) == targets).sum(-1))
        return loss

    def _keep_first(self, losses: list[Tensor]) -> None:
        if losses:
            first = torch.stack(losses).view(-1, self.members).T.tolist()
            for outcome, its_losses in zip(self.outcomes, first, strict=True):
                if outcome.status == "ok":
                    outcome.first_losses += its_losses

    def log(self, progress: Callable[[dict[str, Any]], None]) -> None:
        """Adds an entry to each history; a member whose loss is not finite has diverged."""
        config, epoch = self.config, self.epoch
        due = config.test_every and epoch % config.test_every == 0 and epoch < config.epochs
        tests = evaluate(self.trainee, self.judged) if due else None
        rows = self.totals.T.tolist()
        self.totals.zero_()
        for n, outcome in enumerate(self.outcomes):
            if outcome.status == "diverged":
                continue
            loss, seen, correct = rows[n]
            accuracy = {"accuracy": 100 * correct / seen} if self.batches.images else {}
            entry = {"epoch": epoch, "loss": loss / seen} | accuracy
            outcome.history.append(entry | self._measures(outcome))
            if tests is not None:
                outcome.history[-1]["test"] = tests[n]
            outcome.seconds = (time.monotonic() - self.started) / self.members
            progress(entry)
            if not math.isfinite(loss):
                outcome.status = "diverged"

    def _measures(self, outcome: Outcome) -> dict[str, Any]:
        """The measurements of the network in an entry and, when due, of its layers."""
        config = self.config
        measures: dict[str, Any] = dict(outcome.learner.network.measure(outcome.data))
        if config.measure_every and (self.epoch % config.measure_every == 0 or self.epoch == config.epochs):
            inputs, targets = next(self.batches.in_order())
            measures["layers"] = alignment.measure(
                outcome.learner, inputs[: alignment.PROBE], targets[: alignment.PROBE]
            )
        return measures

    @property
    def save_is_due(self) -> bool:
        return time.monotonic() - self.saved > self.between_saves

    def save(self, checkpoint: Path) -> None:
        began = time.monotonic()
        save(checkpoint, self.runs, self.epoch, self.state, self.outcomes)
        self.saved = time.monotonic()
        self.between_saves = max(CHECKPOINT_SECONDS, CHECKPOINT_TIMES * (self.saved - began))

    def paused(self) -> list[Outcome]:
        """All runs as paused, including diverged ones, which belong in the same checkpoint as the others."""
        for outcome in self.outcomes:
            outcome.status = "paused"
        return self.outcomes

    def finish(self) -> None:
        """Tests the trained networks, and measures those whose loss is finite."""
        finals = evaluate(self.trainee, self.judged)
        seconds = (time.monotonic() - self.started) / self.members
        for outcome, final in zip(self.outcomes, finals, strict=True):
            if outcome.status == "diverged":
                continue
            outcome.seconds = seconds
            if math.isfinite(final["loss"]):
                outcome.final = final
                outcome.trained = outcome.learner.network.measure_trained(next(self.batches.in_order())[0])
                if self.config.measure_dimension:
                    outcome.dimension = dimension.measure(outcome.learner, self.judged)
            else:
                outcome.status = "diverged"
