"""The one training loop, for every rule, network and dataset."""

import hashlib
import inspect
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from bench.augment import augmentation
from bench.config import Config, parse
from bench.conversion import parse_ranks, put_under
from bench.data import load
from bench.data.base import Data, Split
from bench.errors import UsageError, unknown
from bench.files import write_atomically
from bench.layers import RuleLayer
from bench.models import MODELS
from bench.models.base import Network
from bench.rules import RULES
from bench.rules.base import Rule

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}
"""Of weights, feedback and inputs, by precision."""
FIRST_LOSSES = 50
"""Steps whose losses a record keeps."""
CHECKPOINT_SECONDS = 20.0
"""Least seconds between checkpoints."""


def stream(seed: int, purpose: str) -> int:
    """The seed of one stream of random numbers of a run: `weights`, `feedback`, `epoch 3`."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:8], "big") >> 1


@dataclass
class Learner:
    """A network under a rule, ready to train."""

    network: Network
    layers: dict[str, RuleLayer]
    rule: Rule
    output: RuleLayer | None
    """The layer that is told the targets; None where the rule does not read them."""
    outputs: int
    """Width of the network's output."""
    notes: list[str]
    precision: str = "float32"

    def outputs_of(self, inputs: Tensor) -> Tensor:
        """The network's output, in the dtype of the inputs; its forward pass is in the precision of the run."""
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.network(inputs).to(inputs.dtype)

    def feedback(self) -> list[nn.Parameter]:
        """All feedback tensors."""
        return [tensor for layer in self.layers.values() for tensor in layer.feedback.values()]

    @torch.no_grad()
    def reset(self) -> None:
        """Lets the rule set the feedback of every layer anew."""
        for layer in self.layers.values():
            self.rule.reset(layer.weight, dict(layer.feedback))


def build(config: Config, data: Data) -> Learner:
    """The network of a configuration, under its rule, at its initial values. Rules share the weights of a seed."""
    rule_class = RULES.get(config.rule)
    rule = parse(rule_class, config.rule_options, f"options of rule {config.rule}")
    if config.rank is not None and not rule.ranked:
        raise UsageError(f"--rank {config.rank}: rule {config.rule!r} has no rank")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(config.seed, "weights"))
        network = _network(config, data).to(DTYPES[config.precision])
    names = network.feedback_layers()
    ranks = parse_ranks(config.rank, list(names))
    for label, factor in network.rank_factors.items():
        if isinstance(ranks[label], int):
            ranks[label] *= factor
    generator = Generator().manual_seed(stream(config.seed, "feedback"))
    layers, notes = put_under(network, names, rule, ranks, generator, output=network.output_module, clip=config.clip)
    told = network.output_module if rule.reads_targets else None
    output = next((layers[label] for label, name in names.items() if name == told), None)
    return Learner(network, layers, rule, output, data.outputs, notes, config.precision)


def _network(config: Config, data: Data) -> Network:
    model = MODELS.get(config.model)
    if model.regression != data.regression:
        task = "regression" if model.regression else "image classification"
        raise UsageError(f"--dataset {config.dataset}: model {config.model!r} is for {task}")
    _, *allowed = inspect.signature(model).parameters
    for key in config.model_options:
        if key not in allowed:
            raise UsageError(f"options of model {config.model}: {unknown('key', key, allowed)}")
    try:
        return model(data, **config.model_options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"options {config.model_options} of model {config.model}: {error}") from None


def prepare(config: Config, device: str, loader: Callable[[str, int], Data] = load) -> tuple[Data, Learner]:
    """The data of a run, on its device, and the learner. Raises `UsageError` for a configuration that cannot run."""
    if torch.device(device).type == "cuda":
        _set_products(config)
    data = loader(config.dataset, config.seed)
    data = (data.holdout() if config.split == "validation" else data).to(device)
    return data, build(config, data)


def _set_products(config: Config) -> None:
    """How a GPU multiplies float32 matrices. Raises `UsageError` where it lacks the precision of the run."""
    mixed = config.precision == "bfloat16"
    if mixed and not torch.cuda.is_bf16_supported(including_emulation=False):
        gpu = torch.cuda.get_device_name()
        raise UsageError(f"precision: {gpu} has no bfloat16; allowed: float32, float64")
    torch.set_float32_matmul_precision("high" if mixed else "highest")


class Batches:
    """A split as batches on its device: images as normalised floats, the targets as they are."""

    def __init__(self, split: Split, data: Data, config: Config) -> None:
        self.dtype = DTYPES[config.precision]
        self.size = config.batch_size or len(split)
        self.epoch = min(len(split), config.epoch_examples or len(split))
        self.augmentations = [augmentation(spec) for spec in config.augment]
        self.images = not data.regression
        if self.images:
            self.split = split
            self.mean, self.std = (t.to(self.dtype) for t in channel_statistics(data.train.inputs))
        else:
            self.split = Split(split.inputs.to(self.dtype), split.targets.to(self.dtype))

    def __len__(self) -> int:
        """Batches of an epoch of training."""
        return math.ceil(self.epoch / self.size)

    def __call__(self, generator: Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets): with a generator an epoch of training, shuffled and augmented, else the split in order."""
        n, device, training = len(self.split), self.split.inputs.device, generator is not None
        end = self.epoch if training else n
        order = torch.randperm(n, generator=generator).to(device) if training and min(self.size, end) < n else None
        draws = [(a, a.draw(n, generator).to(device)) for a in self.augmentations] if training else []
        for start in range(0, end, self.size):
            part = slice(start, min(start + self.size, end))
            rows = part if order is None else order[part]
            inputs = self.split.inputs[rows] if order is None else self.split.inputs.index_select(0, rows)
            if self.images:
                inputs = inputs.to(self.dtype).div_(255)
                for change, drawn in draws:
                    inputs = change.apply(inputs, drawn[part])
                inputs = inputs.sub_(self.mean).div_(self.std)
            yield inputs, self.split.targets[rows]


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of uint8 images (N, C, H, W) on the scale [0, 1], float64 (1, C, 1, 1)."""
    values = torch.arange(256, dtype=torch.float64, device=images.device) / 255
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.transpose(0, 1)]).double()
    weights = counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    variance = weights @ values.square() - mean.square()
    return mean.view(1, -1, 1, 1), variance.sqrt().view(1, -1, 1, 1)


def loss_of(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples of the cross-entropy (labels), or of half the squared error (real targets)."""
    if targets.is_floating_point():
        return 0.5 * (outputs - targets).square().sum(1).mean()
    return F.cross_entropy(outputs, targets)


def optimiser_of(config: Config, learner: Learner) -> torch.optim.Optimizer:
    """One optimiser for weights and feedback, the feedback at its own rate; no gradient, no step and no decay."""
    feedback = learner.feedback()
    held = {id(tensor) for tensor in feedback}
    forward = [p for p in learner.network.parameters() if id(p) not in held]
    groups: list[dict[str, Any]] = [{"params": forward, "lr": config.lr}]
    if feedback:
        groups.append({"params": feedback, "lr": config.lr * config.feedback_rate})
        if config.feedback_decay is not None:
            groups[1]["weight_decay"] = config.feedback_decay
    return OPTIMISERS[config.optimiser](groups, weight_decay=config.weight_decay)


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, amsgrad=True, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "rmsprop": partial(torch.optim.RMSprop, foreach=True),
    "sgd": partial(torch.optim.SGD, foreach=True),
}


def scheduler_of(config: Config, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rates an epoch: times `gamma` after each, or a linear warm-up and then half a cosine."""
    if config.schedule == "exponential":
        return torch.optim.lr_scheduler.ExponentialLR(optimiser, config.gamma)

    def cosine(epoch: int) -> float:
        if epoch < config.warmup:
            return (epoch + 1) / (config.warmup + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (epoch - config.warmup) / max(1, config.epochs - config.warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, cosine)


def step(
    learner: Learner,
    optimiser: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    clip_gradients: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser; returns the loss and the network's outputs, detached."""
    loss, outputs = gradients(learner, optimiser, inputs, targets)
    if clip_gradients is not None:
        nn.utils.clip_grad_value_(learner.network.parameters(), clip_gradients)
    optimiser.step()
    return loss, outputs


def gradients(
    learner: Learner, optimiser: torch.optim.Optimizer, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Sets the gradients of all parameters anew; returns the loss and the network's outputs, detached."""
    if learner.output is not None:
        regression = targets.is_floating_point()
        learner.output.targets = targets if regression else F.one_hot(targets, learner.outputs).to(inputs.dtype)
    outputs = learner.outputs_of(inputs)
    loss = loss_of(outputs, targets)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    return loss.detach(), outputs.detach()


@torch.inference_mode()
def evaluate(learner: Learner, batches: Batches) -> dict[str, float]:
    """Mean loss, and for labels the accuracy in percent, in eval mode."""
    learner.network.eval()
    totals = torch.zeros(2, dtype=torch.float64, device=batches.split.inputs.device)
    for inputs, targets in batches():
        outputs = learner.outputs_of(inputs)
        totals[0] += loss_of(outputs, targets) * len(inputs)
        if batches.images:
            totals[1] += (outputs.argmax(1) == targets).sum()
    loss, correct = (totals / len(batches.split)).tolist()
    return {"loss": loss, "accuracy": 100 * correct} if batches.images else {"loss": loss}


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
    seconds: float = 0.0


def train(
    config: Config,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    deadline: float = math.inf,
    loader: Callable[[str, int], Data] = load,
    progress: Callable[[dict[str, Any]], None] = lambda entry: None,
    steps: int | None = None,
    draws: str = "layers",
) -> Outcome:
    """Trains one network and tests it after the last epoch; nothing is chosen by a test.

    With `checkpoint`, the state is saved there at the end of an epoch when the last save is old enough, and a run
    that finds the file goes on from it, to bitwise the same end on the CPU; one that cannot, fails and sets it aside.
    Past `deadline` (of `time.monotonic`) the run saves and comes back `paused`. `progress` is told of each entry of the
    history. Raises `UsageError` for a configuration that cannot run.

    `steps`, at most `FIRST_LOSSES`, stops the run after so many, `paused` and unsaved. `draws` names the random numbers
    of the network and the rule (dropout and the like): another name gives others, everything else staying the same.
    """
    data, learner = prepare(config, device, loader)
    network = learner.network.to(device)
    optimiser = optimiser_of(config, learner)
    scheduler = scheduler_of(config, optimiser)
    batches, judged = (Batches(split, data, config) for split in (data.train, data.test))
    resets = learner.rule.resets
    reset_every = math.ceil(len(batches) / resets) if resets else 0
    outcome = Outcome(learner, data)
    state = {"network": network, "optimiser": optimiser, "scheduler": scheduler}

    epoch = 0
    if checkpoint is not None and checkpoint.exists():
        epoch = _restore(checkpoint, state, outcome)
    elif measures := network.measure(data) | _measures(config, learner, batches, epoch):
        outcome.history.append({"epoch": 0, **measures})
    saved = time.monotonic()
    started = saved - outcome.seconds

    totals = torch.zeros(3, dtype=torch.float64, device=device)
    generator = torch.cuda.default_generators[torch.cuda.current_device()] if data.on_gpu else torch.default_generator
    while epoch < config.epochs:
        epoch += 1
        network.train()
        generator.manual_seed(stream(config.seed, f"{draws} {epoch}"))
        losses = []
        shuffled = batches(Generator().manual_seed(stream(config.seed, f"epoch {epoch}")))
        left = steps and steps - len(outcome.first_losses)
        for number, (inputs, targets) in enumerate(islice(shuffled, left), 1):
            loss, outputs = step(learner, optimiser, inputs, targets, config.clip_gradients)
            if reset_every and number % reset_every == 0:
                learner.reset()
            losses.append(loss)
            totals[0] += loss * len(inputs)
            totals[1] += len(inputs)
            if batches.images:
                totals[2] += (outputs.argmax(1) == targets).sum()
        scheduler.step()
        if (missing := FIRST_LOSSES - len(outcome.first_losses)) > 0:
            outcome.first_losses += torch.stack(losses[:missing]).tolist()
        if steps is not None and len(outcome.first_losses) == steps:
            outcome.status = "paused"
            return outcome
        if epoch % config.log_every and epoch < config.epochs:
            continue

        loss, seen, correct = totals.tolist()
        totals.zero_()
        entry = {"epoch": epoch, "loss": loss / seen} | ({"accuracy": 100 * correct / seen} if batches.images else {})
        outcome.history.append(entry | network.measure(data) | _measures(config, learner, batches, epoch))
        if config.test_every and epoch % config.test_every == 0 and epoch < config.epochs:
            outcome.history[-1]["test"] = evaluate(learner, judged)
        outcome.seconds = time.monotonic() - started
        progress(entry)
        if not math.isfinite(loss):
            outcome.status = "diverged"
            return outcome
        late = time.monotonic() > deadline and epoch < config.epochs
        if checkpoint is not None and (late or time.monotonic() - saved > CHECKPOINT_SECONDS):
            _save(checkpoint, epoch, state, outcome)
            saved = time.monotonic()
        if late:
            outcome.status = "paused"
            return outcome

    final = evaluate(learner, judged)
    outcome.seconds = time.monotonic() - started
    if math.isfinite(final["loss"]):
        outcome.final = final
        outcome.trained = network.measure_trained(next(batches())[0])
    else:
        outcome.status = "diverged"
    return outcome


def _measures(config: Config, learner: Learner, batches: Batches, epoch: int) -> dict[str, Any]:
    """What the entry of an epoch says about the layers, where that is due."""
    if not config.measure_every or (epoch % config.measure_every and epoch < config.epochs):
        return {}
    from bench.alignment import PROBE, measure

    inputs, targets = next(batches())
    return {"layers": measure(learner, inputs[:PROBE], targets[:PROBE])}


def _save(path: Path, epoch: int, state: dict[str, Any], outcome: Outcome) -> None:
    kept = {"first_losses": outcome.first_losses, "history": outcome.history, "seconds": outcome.seconds}
    states = {name: part.state_dict() for name, part in state.items()}
    write_atomically(path, lambda file: torch.save({"epoch": epoch, "outcome": kept, "states": states}, file))


def _restore(path: Path, state: dict[str, Any], outcome: Outcome) -> int:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in state.items():
            part.load_state_dict(saved["states"][name])
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        aside = path.rename(path.with_suffix(".broken"))
        raise RuntimeError(f"its checkpoint is broken, and now {aside.name}; the next run starts anew") from error
    for name, value in saved["outcome"].items():
        setattr(outcome, name, value)
    return saved["epoch"]
