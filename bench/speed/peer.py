"""Feedback alignment here beside that of biotorch, where that is installed (github.com/jsalbert/biotorch)."""

import torch
from torch import nn
from torch.nn import functional as F

from bench.speed.base import Measurement, Row, alternate
from bench.speed.networks import BATCH, of_protocol, settings


def biotorch() -> Measurement:
    """Seconds of a step of `fa` here over theirs, in the same network on the same batch with the same optimiser."""
    from biotorch.layers.fa import Linear

    ours = of_protocol(settings("mlp", "fa", batch_size=BATCH, clip=None))
    first, *others = (
        nn.Sequential(layer(size, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True))
        for layer, size in ((nn.Linear, 3072), (Linear, 512), (Linear, 512))
    )
    theirs = nn.Sequential(nn.Flatten(), first, *others, Linear(512, 10)).train()
    optimiser = torch.optim.Adam(theirs.parameters(), amsgrad=True, fused=True)
    targets = torch.randint(10, (BATCH,))

    def step() -> None:
        loss = F.cross_entropy(theirs(ours.inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    rounds = alternate({"fa": ours.step, "biotorch": step})
    return rounds.measurement(lambda seconds: seconds["fa"] / seconds["biotorch"])


ROWS = [Row("biotorch", f"MLP, batch {BATCH}: a step of fa over that of biotorch", biotorch, package="biotorch")]
