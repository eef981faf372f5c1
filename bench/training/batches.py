"""Batches of a split on its device."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from bench.config import Config
from bench.data.base import Data, Split
from bench.training.augment import augmentation
from bench.training.learner import DTYPES


class Batches:
    """Batches of a split on its device: images as normalised floats, targets unchanged.

    Their size is that of the run, but at least `least`.
    """

    def __init__(self, split: Split, data: Data, config: Config, least: int = 0) -> None:
        self.dtype = DTYPES[config.precision]
        self.size = max(config.batch_size or len(split), least)
        self.epoch = min(len(split), config.epoch_examples or len(split))
        self.whole = self.epoch == len(split) <= self.size
        self.augmentations = [augmentation(spec) for spec in config.augment]
        self.images = not data.regression
        if self.images:
            self.split = split
            self.mean, self.std = (t.to(self.dtype) for t in data.channel_statistics)
        else:
            self.split = Split(split.inputs.to(self.dtype), split.targets.to(self.dtype))

    def __len__(self) -> int:
        """Number of batches in a training epoch."""
        return math.ceil(self.epoch / self.size)

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) of the whole split, in order and not augmented."""
        for start in range(0, len(self.split), self.size):
            part = slice(start, start + self.size)
            yield self._normalised(self.split.inputs[part]), self.split.targets[part]

    def shuffled(self, *generators: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) of one training epoch, shuffled and augmented as the generator determines.

        With M generators, M > 1, inputs and targets are (M, B, ...): the batches of the single generators, stacked.
        """
        return (self.batch(*drawn) for drawn in self.draws(*generators))

    def draws(self, *generators: Generator) -> Iterator[tuple[Tensor, ...]]:
        """What the M generators determine of each batch of one training epoch, on the device of the split.

        The rows of the split (M, B), then the random numbers of each augmentation (M, B, ...).
        """
        n, device = len(self.split), self.split.inputs.device
        orders, numbers = [], []
        for generator in generators:
            orders.append(torch.arange(n) if self.whole else torch.randperm(n, generator=generator))
            numbers.append([augmentation.draw(n, generator) for augmentation in self.augmentations])
        drawn = [torch.stack(list(each)).to(device) for each in (orders, *zip(*numbers, strict=True))]
        for start in range(0, self.epoch, self.size):
            part = slice(start, min(start + self.size, self.epoch))
            yield tuple(each[:, part] for each in drawn)

    def batch(self, rows: Tensor, *numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of one batch, (B, ...), or (M, B, ...) for M > 1, from what was drawn for it."""
        members = len(rows)
        inputs, targets = self.split.inputs, self.split.targets
        if not self.whole or members > 1:
            rows = rows.flatten()
            inputs, targets = inputs.index_select(0, rows), targets[rows]
        inputs = self._normalised(inputs, [each.flatten(0, 1) for each in numbers])
        if members > 1:
            inputs, targets = (tensor.unflatten(0, (members, -1)) for tensor in (inputs, targets))
        return inputs, targets

    def _normalised(self, inputs: Tensor, drawn: Sequence[Tensor] = ()) -> Tensor:
        """Images (N, C, H, W) as floats, augmented with the numbers drawn, if any; features unchanged."""
        if not self.images:
            return inputs
        for change, numbers in zip(self.augmentations, drawn, strict=False):
            inputs = change.apply(inputs if change.moves_pixels else self._floats(inputs), numbers)
        return self._floats(inputs).sub_(self.mean).div_(self.std)

    def _floats(self, images: Tensor) -> Tensor:
        """Converts uint8 from 0 to 255 into 0 to 1; other values are unchanged."""
        return images if images.is_floating_point() else images.to(self.dtype).div_(255)
