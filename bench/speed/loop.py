"""A training step of this package compared with one of plain PyTorch."""

import torch
from torch import nn
from torch.nn import functional as F

from bench.config import Config
from bench.models.mlp import MLP
from bench.speed.base import Measurement, Row, Side, alternate
from bench.speed.networks import BATCH, Timed, images, of_protocol, settings


def plain_step(batch: int = BATCH) -> Measurement:
    """Seconds of a step of `bp` over one of the same network in plain PyTorch, with the same optimiser."""
    config = settings("mlp", "bp", batch_size=batch, clip=None)
    ours = of_protocol(config)
    rounds = alternate({"here": ours.step, "plain": loop(MLP(images(batch)), config, ours)})
    return rounds.measurement(lambda seconds: seconds["here"] / seconds["plain"])


def loop(network: nn.Module, config: Config, ours: Timed) -> Side:
    """A step as in tutorials, on the batch of `ours`, with the optimiser of the MLP's protocol."""
    network.train()
    parameters, decay = network.parameters(), config.weight_decay
    optimiser = torch.optim.Adam(parameters, lr=config.lr, weight_decay=decay, amsgrad=True, fused=True)
    targets = torch.randint(10, (len(ours.inputs),))

    def step() -> None:
        loss = F.cross_entropy(network(ours.inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


ROWS = [Row("plain", f"MLP, batch {BATCH}: a step of bp over one of plain PyTorch", plain_step, 1.02, 1.0)]
