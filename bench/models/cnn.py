"""VGG-like convolutional network: eight 3x3 convolutions in four stages, then a classifier of two layers.

Stages of width, 2 width, 4 width and 8 width channels; BatchNorm and ReLU after each convolution; a 2x2 max pool
between the stages, and the mean over positions after the last. arXiv:2502.20580, section on convolutional networks:
width 64 and a classifier 512-256-10 on CIFAR-10.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.base import Data
from bench.errors import UsageError
from bench.models.base import Network


class CNN(Network):
    """B1 to B7 are the feedbacks of the second to eighth convolution; the first sends no error down.

    The classifier, 8 width - 4 width - outputs with ReLU and dropout, stays under backpropagation. Raises `UsageError`
    for images smaller than 8 x 8, which the pools would reduce to nothing.
    """

    version = 1
    output_module = "classifier.3"

    def __init__(self, data: Data, width: int = 64, dropout: float = 0.4) -> None:
        super().__init__()
        channels, *size = data.train.inputs.shape[1:]
        if min(size) < 8:
            pixels = " x ".join(map(str, size))
            raise UsageError(f"model cnn: images of {pixels} pixels are too small; expected: 8 x 8 or more")
        sizes = [channels, *(width * 2**stage for stage in range(4) for _ in range(2))]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(below, above, 3, padding=1), nn.BatchNorm2d(above), nn.ReLU(inplace=True))
            for below, above in pairwise(sizes)
        )
        self.classifier = nn.Sequential(
            nn.Linear(8 * width, 4 * width),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4 * width, data.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        if not torch._C._are_functorch_transforms_active():  # a GPU cannot map batch norm over this memory format
            x = x.contiguous(memory_format=torch.channels_last)
        for index, block in enumerate(self.blocks):
            x = block(x if index not in POOLED else F.max_pool2d(x, 2))
        return self.classifier(x.mean((2, 3)))

    def feedback_layers(self) -> dict[str, str]:
        return {f"B{index}": f"blocks.{index}.0" for index in range(1, len(self.blocks))}


POOLED = (2, 4, 6)
"""The blocks that start a new stage."""

MODEL = CNN
