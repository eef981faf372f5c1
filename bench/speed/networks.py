"""The networks that are timed, on random data, since timing does not depend on what they learn."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.config import UNMEASURED, Config
from bench.conversion import convert
from bench.data.base import Data, Split
from bench.rules import RULES
from bench.sweeps.protocols import configure
from bench.training.costs import first_batch
from bench.training.learner import build, placed, step
from bench.training.optimisers import optimiser_of

RANK = 10
BATCH = 256


@dataclass
class Timed:
    """A network, its batch on the device, and the operations to time."""

    network: nn.Module
    inputs: Tensor
    backward: Callable[[], object]
    """Forward and backward pass, recomputing the gradients."""
    step: Callable[[], object]
    """The same, plus a step of the optimiser."""

    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())


def square(width: int, rule: str, *, layers: int = 8, batch: int = BATCH) -> Timed:
    """Linear layers of one width with nothing between them. All send an error down, the first one to the inputs."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    convert(network, rule, RANK if RULES.get(rule).ranked else None)
    inputs, error = torch.randn(batch, width, requires_grad=True), torch.randn(batch, width) / batch
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-4, amsgrad=True, fused=True)

    def backward() -> None:
        optimiser.zero_grad()
        inputs.grad = None
        network(inputs).backward(error)

    def whole() -> None:
        backward()
        optimiser.step()

    return Timed(network, inputs, backward, whole)


def of_protocol(config: Config, device: str = "cpu") -> Timed:
    """The network of a configuration, with its own optimiser and its first batch of random images."""
    data = placed(images(config.batch_size), config, device)
    learner = build(config, data)
    network = learner.network.to(device).train()
    optimiser = optimiser_of(config, learner)
    inputs, targets = first_batch(config, data)
    return Timed(
        network,
        inputs,
        lambda: learner.gradients(optimiser, inputs, targets),
        lambda: step(learner, optimiser, inputs, targets, config.clip_gradients),
    )


def settings(model: str, rule: str, scale: str = "cpu", rank: int = RANK, **changes: Any) -> Config:
    """The protocol's settings, untuned and without measurements, for `images`; with the rank if the rule has one."""
    config = configure(model, rule, scale, choose=lambda names: "cifar10", results=None)
    return replace(config, rank=str(rank) if RULES.get(rule).ranked else None, **(UNMEASURED | changes))


def images(examples: int) -> Data:
    """Random images in place of CIFAR-10; the test split has a fifth as many."""
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        pixels = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return Split(pixels, torch.randint(10, (n,), generator=generator))

    return Data("random", split(examples), split(max(1, examples // 5)), 10, {})
