"""An epoch compared with the usual loop over images that worker processes prepare one by one."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from bench.models.mlp import MLP
from bench.speed.base import Measurement, Row, Side, alternate
from bench.speed.networks import images, settings
from bench.training.batches import Batches
from bench.training.learner import build, step
from bench.training.optimisers import optimiser_of

SUBSET = 2_560
"""Images per timed epoch."""
WORKERS = 2


def usual_epoch(examples: int = SUBSET) -> Measurement:
    """Seconds of an epoch of the MLP under `bp` over those of the usual loop, on part of the images.

    The usual loop has PIL images in a `DataLoader`, whose two workers flip, rotate and normalise them one by one. The
    workers outlive the epoch, so their start is not counted; on either side, an epoch of all 50,000 images would take
    longer in proportion to its size.
    """
    config, data = settings("mlp", "bp", clip=None), images(examples)
    learner = build(config, data)
    optimiser, batches = optimiser_of(config, learner), Batches(data.train, data, config)
    learner.network.train()

    def here() -> None:
        for inputs, targets in batches.shuffled(torch.Generator().manual_seed(0)):
            step(learner, optimiser, inputs, targets)

    rounds = alternate({"here": here, "usual": _usual(data.train.inputs, data.train.targets, config.batch_size)})
    return rounds.measurement(
        lambda seconds: seconds["here"] / seconds["usual"], alone=False, images=examples, workers=WORKERS
    )


class _Pictures(Dataset):
    """PIL images with torchvision's transforms, as in tutorials."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        from torchvision import transforms

        self.pictures = [transforms.functional.to_pil_image(image) for image in pixels]
        self.labels = labels.tolist()
        statistics = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomRotation(10),
                transforms.ToTensor(),
                transforms.Normalize(*statistics),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def _usual(pixels: Tensor, labels: Tensor, batch: int) -> Side:
    network = MLP(images(batch)).train()
    optimiser = torch.optim.Adam(network.parameters(), amsgrad=True)
    loader = DataLoader(_Pictures(pixels, labels), batch, shuffle=True, num_workers=WORKERS, persistent_workers=True)

    def epoch() -> None:
        for inputs, targets in loader:
            optimiser.zero_grad()
            F.cross_entropy(network(inputs), targets).backward()
            optimiser.step()

    return epoch


ROWS = [
    Row(
        "epoch",
        f"MLP: an epoch of bp on {SUBSET:,} images over one with a DataLoader of PIL images, {WORKERS} workers",
        usual_epoch,
        0.5,
    )
]
