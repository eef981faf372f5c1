"""A training step here against one of plain PyTorch."""

import torch
from torch.nn import functional as F

from bench.models.mlp import MLP
from bench.speed.base import Measurement, Row, alternate
from bench.speed.networks import BATCH, images, of_protocol, settings


def plain_step(batch: int = BATCH) -> Measurement:
    """Seconds of a step of `bp` here over one of the same network as plain PyTorch, with the same optimiser."""
    config = settings("mlp", "bp", batch_size=batch, clip=None)
    ours = of_protocol(config)
    theirs = MLP(images(batch)).train()
    optimiser = torch.optim.Adam(
        theirs.parameters(), lr=config.lr, weight_decay=config.weight_decay, amsgrad=True, fused=True
    )
    targets = torch.randint(10, (batch,))

    def plain() -> None:
        loss = F.cross_entropy(theirs(ours.inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    rounds = alternate({"here": ours.step, "plain": plain})
    return rounds.measurement(lambda seconds: seconds["here"] / seconds["plain"])


ROWS = [Row("plain", f"MLP, batch {BATCH}: a step of bp over one of plain PyTorch", plain_step, 1.02, 1.0)]
