"""Feedback alignment compared with that of biotorch, if it is installed (github.com/jsalbert/biotorch)."""

from torch import nn

from bench.speed.base import Measurement, Row, alternate
from bench.speed.loop import loop
from bench.speed.networks import BATCH, of_protocol, settings


def biotorch() -> Measurement:
    """Seconds of a step of `fa` over theirs, in the same network on the same batch with the same optimiser."""
    from biotorch.layers.fa import Linear

    config = settings("mlp", "fa", batch_size=BATCH, clip=None)
    ours = of_protocol(config)
    first, *others = (
        nn.Sequential(layer(size, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True))
        for layer, size in ((nn.Linear, 3072), (Linear, 512), (Linear, 512))
    )
    theirs = nn.Sequential(nn.Flatten(), first, *others, Linear(512, 10))
    rounds = alternate({"fa": ours.step, "biotorch": loop(theirs, config, ours)})
    return rounds.measurement(lambda seconds: seconds["fa"] / seconds["biotorch"])


ROWS = [Row("biotorch", f"MLP, batch {BATCH}: a step of fa over that of biotorch", biotorch, package="biotorch")]
