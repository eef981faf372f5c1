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
    """Batches of a split on its device: images as normalised floats, targets unchanged."""

    def __init__(self, split: Split, data: Data, config: Config) -> None:
        self.dtype = DTYPES[config.precision]
        self.size = config.batch_size or len(split)
        self.epoch = min(len(split), config.epoch_examples or len(split))
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
        n, device, members = len(self.split), self.split.inputs.device, len(generators)
        whole = self.epoch == n <= self.size
        orders, draws = [], []
        for generator in generators:
            orders.append(torch.arange(n) if whole else torch.randperm(n, generator=generator))
            draws.append([augmentation.draw(n, generator) for augmentation in self.augmentations])
        order = torch.stack(orders).to(device)
        drawn = [torch.stack(numbers).to(device) for numbers in zip(*draws, strict=True)]
        for start in range(0, self.epoch, self.size):
            part = slice(start, min(start + self.size, self.epoch))
            inputs, targets = self.split.inputs, self.split.targets
            if not whole or members > 1:
                rows = order[:, part].flatten()
                inputs, targets = inputs.index_select(0, rows), targets[rows]
            inputs = self._normalised(inputs, [numbers[:, part].flatten(0, 1) for numbers in drawn])
            if members > 1:
                inputs, targets = (tensor.unflatten(0, (members, -1)) for tensor in (inputs, targets))
            yield inputs, targets

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
