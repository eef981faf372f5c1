"""A network under a rule, and one step of its training."""

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from bench.config import Config, parse, stream
from bench.conversion import convert_layers
from bench.data import load_once
from bench.data.base import Data
from bench.errors import UsageError, unknown
from bench.layers import RuleLayer
from bench.layers.ranks import parse_ranks
from bench.models import MODELS
from bench.models.base import Network
from bench.rules import RULES
from bench.rules.base import Rule

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32, "tf32": torch.float32}
"""Dtype of weights, feedback and inputs, by precision."""


class Trainee(ABC):
    """What the training loop trains: one `Learner`, or a `Population` of M of them, whose tensors have a leading M."""

    members: Sequence["Learner"]

    @abstractmethod
    def weights(self) -> list[nn.Parameter]:
        """All parameters of the forward pass."""

    @abstractmethod
    def feedback(self) -> list[nn.Parameter]:
        """The feedback tensors that learn, or parts of them."""

    @abstractmethod
    def loss(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss () or (M,) and the outputs (..., B, C) on one batch (B, ...) shared by the members."""

    @abstractmethod
    def gradients(self, optimiser: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Recomputes all gradients; returns the loss () or (M,) and the outputs, detached."""


@dataclass
class Learner(Trainee):
    """A network under a rule, ready to train."""

    network: Network
    layers: dict[str, RuleLayer]
    rule: Rule
    told: list[RuleLayer]
    """The layers that receive the targets."""
    outputs: int
    """Width of the network's output."""
    notes: list[str]
    precision: str = "float32"

    def weights(self) -> list[nn.Parameter]:
        held = set(map(id, self.all_feedback()))
        return [p for p in self.network.parameters() if id(p) not in held]

    def feedback(self) -> list[nn.Parameter]:
        return [tensor for tensor in self.all_feedback() if tensor.requires_grad]

    def all_feedback(self) -> list[nn.Parameter]:
        """All feedback tensors, including fixed ones."""
        return [tensor for layer in self.layers.values() for tensor in layer.feedback.values()]

    @property
    def members(self) -> Sequence["Learner"]:  # type: ignore[override]
        return [self]

    def outputs_of(self, inputs: Tensor) -> Tensor:
        """The network's output, in the dtype of the inputs; the forward pass uses the run's precision."""
        if self.precision != "bfloat16":
            return self.network(inputs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return self.network(inputs).to(inputs.dtype)

    def as_told(self, targets: Tensor, dtype: torch.dtype) -> Tensor | None:
        """The targets in the form that layers receive: one-hot labels, or real targets unchanged; None under most
        rules.
        """
        if not self.told:
            return None
        return targets if targets.is_floating_point() else F.one_hot(targets, self.outputs).to(dtype)

    def tell(self, targets: Tensor | None) -> None:
        """Gives the layers the targets of the next forward pass, `as_told`."""
        for layer in self.told:
            layer.targets = targets

    def loss(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.outputs_of(inputs)
        return loss_of(outputs, targets), outputs

    def gradients(self, optimiser: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        self.tell(self.as_told(targets, inputs.dtype))
        loss, outputs = self.loss(inputs, targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach(), outputs.detach()

    @torch.no_grad()
    def reset(self) -> None:
        """Lets the rule reinitialise the feedback of every layer; feedback that has diverged is left unchanged."""
        for layer in self.layers.values():
            if layer.weight.isfinite().all():
                layer.reset_feedback()


def build(config: Config, data: Data) -> Learner:
    """The network of a configuration under its rule, at its initial values. All rules share the weights of a seed."""
    rule_class = RULES.get(config.rule)
    rule = parse(rule_class, config.rule_options, f"options of rule {config.rule}")
    if config.rank is not None and not rule.ranked:
        raise UsageError(f"--rank {config.rank}: rule {config.rule!r} has no rank")
    if not rule.serves(data.regression):
        raise UsageError(
            f"--rule {config.rule}: rule {config.rule!r} needs class labels, model {config.model!r} is for regression"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(config.seed, "weights"))
        network = _network(config, data).to(DTYPES[config.precision])
    names = network.feedback_layers()
    ranks = parse_ranks(config.rank, list(names))
    for label, factor in network.rank_factors.items():
        if isinstance(asked := ranks[label], int):
            ranks[label] = asked * factor
    generator = Generator().manual_seed(stream(config.seed, "feedback"))
    last = network.output_module
    layers, notes = convert_layers(network, names, rule, ranks, generator, output=last, clip=config.clip)
    told = [layers[label] for label, name in names.items() if rule.told == "all" or (rule.told and name == last)]
    return Learner(network, layers, rule, told, data.outputs, notes, config.precision)


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
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # such a network is refused below
            network = model(data, **config.model_options)
    except UsageError:
        raise
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise UsageError(f"options {config.model_options} of model {config.model}: {error}") from None
    if not all(parameter.numel() for parameter in network.parameters()):
        raise UsageError(f"options {config.model_options} of model {config.model}: a layer has no weights")
    return network


def prepare(config: Config, device: str) -> tuple[Data, Learner]:
    """The data of a run, on its device, and the learner. Raises `UsageError` for a configuration that cannot run."""
    data = data_of(config, device)
    return data, build(config, data)


def data_of(config: Config, device: str) -> Data:
    """The data of a run, `placed`."""
    return placed(load_once(config.dataset, config.seed), config, device)


def placed(data: Data, config: Config, device: str) -> Data:
    """The split of a run on its device, set to the run's precision. Raises `UsageError` if the device lacks it."""
    if torch.device(device).type == "cuda":
        _set_products(config)
    return (data.holdout() if config.split == "validation" else data).to(device)


def _set_products(config: Config) -> None:
    """Sets how a GPU multiplies and convolves float32. Raises `UsageError` if it lacks the run's precision."""
    short = config.precision in ("bfloat16", "tf32")
    if short and not torch.cuda.is_bf16_supported(including_emulation=False):  # TF32 came with bfloat16
        gpu = torch.cuda.get_device_name()
        raise UsageError(f"precision: {gpu} has no {config.precision}; expected: float32, float64")
    torch.set_float32_matmul_precision("high" if short else "highest")
    torch.backends.cudnn.allow_tf32 = short


def loss_of(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples of the cross-entropy (labels) or of half the squared error (real targets)."""
    if targets.is_floating_point():
        return 0.5 * (outputs - targets).square().sum(1).mean()
    return F.cross_entropy(outputs, targets)


def step(
    trainee: Trainee,
    optimiser: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    clip_gradients: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser; returns the loss () or (M,) and the outputs (..., B, C), detached."""
    loss, outputs = trainee.gradients(optimiser, inputs, targets)
    if clip_gradients is not None:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_value_(parameters, clip_gradients)
    optimiser.step()
    return loss, outputs
