"""The transformer and the convolutional network on a GPU, forward pass in bfloat16."""

import time
from functools import partial
from statistics import median

import torch
from torch import Tensor

from bench.config import Config
from bench.speed.base import Device, Measurement, Row, alternate, quartiles
from bench.speed.networks import images, of_protocol, settings
from bench.training.batches import Batches
from bench.training.costs import flops_of
from bench.training.graphs import Graph, own_stream
from bench.training.learner import build, placed, step
from bench.training.optimisers import optimiser_of

RANK = 32
LARGE = {"width": 768, "depth": 12, "heads": 12}
EXAMPLES = 50_000
EPOCHS = 5


def vit(device: Device = "cuda", scale: str = "gpu", **changes: object) -> Measurement:
    """Seconds of a step of `ldfa` over one of `bp`."""
    changes = {"precision": "bfloat16"} | changes
    trainees = {rule: of_protocol(settings("vit", rule, scale, RANK, **changes), device) for rule in ("ldfa", "bp")}
    flops = {rule: flops_of(trainee.step) for rule, trainee in trainees.items()}
    rounds = alternate({rule: trainee.step for rule, trainee in trainees.items()}, device)
    return rounds.measurement(lambda seconds: seconds["ldfa"] / seconds["bp"], flops=flops)


def epoch(config: Config, device: Device = "cuda", examples: int = EXAMPLES) -> Measurement:
    """Seconds of an epoch after the first, including data: the images are on the device."""
    data = placed(images(examples), config, device)
    learner = build(config, data)
    learner.network.to(device).train()
    optimiser, batches = optimiser_of(config, learner), Batches(data.train, data, config)

    def update(*drawn: Tensor) -> Tensor:
        loss, _ = step(learner, optimiser, *batches.batch(*drawn), config.clip_gradients)
        return loss

    seconds = []
    with own_stream(device):
        run = partial(Graph().run, update) if device == "cuda" else update
        for number in range(EPOCHS + 1):
            started = time.perf_counter()
            for drawn in batches.draws(torch.Generator().manual_seed(number)):
                loss = run(*drawn)
            loss.item()
            seconds.append(time.perf_counter() - started)
    later = seconds[1:]
    return Measurement(median(later), quartiles(later), EPOCHS, numbers={"batch_size": config.batch_size})


def _epoch(model: str) -> Measurement:
    return epoch(settings(model, "bp", "gpu", precision="bfloat16"))


VIT = f"a step of ldfa r = {RANK} over bp, bfloat16"
ROWS = [
    Row("vit", f"ViT: {VIT}", vit, 0.9, 0.7, device="cuda"),
    Row("vit-768", f"ViT of 12 layers, width 768: {VIT}", partial(vit, model_options=LARGE), 0.8, 0.7, device="cuda"),
    Row("cnn-epoch", "CNN: an epoch of bp, 50,000 images, bfloat16", partial(_epoch, "cnn"), 1.5, None, "s", "cuda"),
    Row("vit-epoch", "ViT: an epoch of bp, 50,000 images, bfloat16", partial(_epoch, "vit"), 2.5, None, "s", "cuda"),
]
