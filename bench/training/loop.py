"""The one training loop, for every rule, network and dataset."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, nn

from bench.config import Config
from bench.data.base import Data
from bench.errors import one_line
from bench.training.batches import Batches
from bench.training.checkpoints import UnusableCheckpoint, restore, save
from bench.training.learner import Learner, Trainee, build, data_of, step, stream
from bench.training.length import FIRST_LOSSES
from bench.training.optimisers import optimiser_of, scheduler_of
from bench.training.population import Population
from bench.training.process import asked_to_pause

CHECKPOINT_SECONDS = 20.0
"""Least seconds between checkpoints."""
CHECKPOINT_TIMES = 20
"""Least time between checkpoints, as a multiple of what writing the last one took."""


@torch.inference_mode()
def evaluate(trainee: Trainee, batches: Batches) -> list[dict[str, float]]:
    """Each member's mean loss, and for labels its accuracy in percent, in eval mode."""
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


@dataclass
class Outcome:
    """What a run gave. Accuracies are in percent."""

    learner: Learner
    data: Data
    status: Literal["ok", "diverged", "paused"] = "ok"
    first_losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    final: dict[str, float] = field(default_factory=dict)
    trained: dict[str, Any] = field(default_factory=dict)
    """What the network says of itself once trained."""
    dimension: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Of the activity that each layer under the rule receives, once trained; empty where it is not measured."""
    seconds: float = 0.0
    """Of a member of a population, its share."""
    population: int = 1
    """Runs that were trained as one program."""


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

    Several, which are to differ in seed and rank alone and whose learners each `can_share`, train as a population.

    With `checkpoint`, the state is saved there at the end of an epoch when the last save is old enough, and a run
    that finds the file resumes from it, to bitwise the same end on the CPU. One that is damaged, or of other runs, is
    set aside with a warning, and the runs start anew. Past `deadline` (of `time.monotonic`), or once asked to pause,
    all is saved and comes back `paused`. `progress` is told of each entry of a history. Raises `UsageError` for a
    configuration that cannot run.

    `steps`, at most `FIRST_LOSSES`, stops after so many, `paused` and unsaved. `draws` names the random numbers
    of the network and the rule (dropout and the like): another name gives others, everything else staying the same.
    """

    def attempt() -> list[Outcome]:
        return _train(configs, device, checkpoint, deadline, progress, steps, draws)

    try:
        return attempt()
    except UnusableCheckpoint as error:
        aside = checkpoint.replace(checkpoint.with_suffix(".broken"))
        words = f"{checkpoint.name} cannot be used ({error}) and is now {aside.name}; its runs start anew"
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
    """`train_together`. Raises `UnusableCheckpoint`."""
    config, members = configs[0], len(configs)
    data = data_of(config, device)
    if data.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    learners = [build(each, data) for each in configs]
    for learner in learners:
        learner.network.to(device)
    trainee = Population(learners) if members > 1 else learners[0]
    optimiser = optimiser_of(config, trainee)
    scheduler = scheduler_of(config, optimiser)
    batches, judged = (Batches(split, data, config) for split in (data.train, data.test))
    resets = learners[0].rule.resets
    reset_every = math.ceil(len(batches) / resets) if resets else 0
    outcomes = [Outcome(learner, data, population=members) for learner in learners]
    networks = nn.ModuleList(learner.network for learner in learners)
    state = {"networks": networks, "optimiser": optimiser, "scheduler": scheduler}

    epoch, runs = 0, {"configs": [each.digest for each in configs], "data": data.sha256}
    if checkpoint is not None and checkpoint.exists():
        epoch = restore(checkpoint, runs, state, outcomes)
    else:
        for outcome in outcomes:
            if measures := _measures(config, outcome, batches, epoch):
                outcome.history.append({"epoch": 0, **measures})
    saved, between_saves = time.monotonic(), CHECKPOINT_SECONDS
    started = saved - members * max(outcome.seconds for outcome in outcomes)

    totals = torch.zeros(3, members, dtype=torch.float64, device=device)
    generator = torch.cuda.default_generators[torch.cuda.current_device()] if data.on_gpu else torch.default_generator
    while epoch < config.epochs:
        epoch += 1
        networks.train()
        generator.manual_seed(stream(config.seed, f"{draws} {epoch}"))
        losses = []
        shuffled = batches.shuffled(*(Generator().manual_seed(stream(c.seed, f"epoch {epoch}")) for c in configs))
        known = max(len(outcome.first_losses) for outcome in outcomes)
        left = steps and steps - known
        for number, (inputs, targets) in enumerate(islice(shuffled, left), 1):
            loss, outputs = step(trainee, optimiser, inputs, targets, config.clip_gradients)
            if reset_every and number % reset_every == 0:
                for learner in learners:
                    learner.reset()
            losses.append(loss)
            examples = outputs.shape[-2]
            totals[0] += loss * examples
            totals[1] += examples
            if batches.images:
                totals[2] += (outputs.argmax(-1) == targets).sum(-1)
        scheduler.step()
        if known < FIRST_LOSSES:
            first = torch.stack(losses[: FIRST_LOSSES - known]).view(-1, members).T.tolist()
            for outcome, its_losses in zip(outcomes, first, strict=True):
                if outcome.status == "ok":
                    outcome.first_losses += its_losses
        if steps is not None and known + len(losses) == steps:
            return _paused(outcomes)
        if epoch % config.log_every and epoch < config.epochs:
            continue

        due = config.test_every and epoch % config.test_every == 0 and epoch < config.epochs
        tests = evaluate(trainee, judged) if due else None
        rows = totals.T.tolist()
        totals.zero_()
        for n, outcome in enumerate(outcomes):
            if outcome.status == "diverged":
                continue
            loss, seen, correct = rows[n]
            accuracy = {"accuracy": 100 * correct / seen} if batches.images else {}
            entry = {"epoch": epoch, "loss": loss / seen} | accuracy
            outcome.history.append(entry | _measures(config, outcome, batches, epoch))
            if tests is not None:
                outcome.history[-1]["test"] = tests[n]
            outcome.seconds = (time.monotonic() - started) / members
            progress(entry)
            if not math.isfinite(loss):
                outcome.status = "diverged"
        if all(outcome.status == "diverged" for outcome in outcomes):
            return outcomes
        late = (time.monotonic() > deadline or asked_to_pause()) and epoch < config.epochs
        if checkpoint is not None and (late or time.monotonic() - saved > between_saves):
            began = time.monotonic()
            save(checkpoint, runs, epoch, state, outcomes)
            saved = time.monotonic()
            between_saves = max(CHECKPOINT_SECONDS, CHECKPOINT_TIMES * (saved - began))
        if late:
            return _paused(outcomes)

    finals = evaluate(trainee, judged)
    seconds = (time.monotonic() - started) / members
    for outcome, final in zip(outcomes, finals, strict=True):
        if outcome.status == "diverged":
            continue
        outcome.seconds = seconds
        if math.isfinite(final["loss"]):
            outcome.final = final
            outcome.trained = outcome.learner.network.measure_trained(next(batches.in_order())[0])
            if config.measure_dimension:
                from bench.training.dimension import measure

                outcome.dimension = measure(outcome.learner, judged)
        else:
            outcome.status = "diverged"
    return outcomes


def _paused(outcomes: list[Outcome]) -> list[Outcome]:
    """All of them paused, one that diverged as well: its record would part it from the others' checkpoint."""
    for outcome in outcomes:
        outcome.status = "paused"
    return outcomes


def _measures(config: Config, outcome: Outcome, batches: Batches, epoch: int) -> dict[str, Any]:
    """What the entry of an epoch says of the network, and of its layers where that is due."""
    learner = outcome.learner
    measures: dict[str, Any] = dict(learner.network.measure(outcome.data))
    if config.measure_every and (epoch % config.measure_every == 0 or epoch == config.epochs):
        from bench.training.alignment import PROBE, measure

        inputs, targets = next(batches.in_order())
        measures["layers"] = measure(learner, inputs[:PROBE], targets[:PROBE])
    return measures
