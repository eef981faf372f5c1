"""Model of the early visual system: a retina of two convolutions, a ventral stream of three, a classifier.

All convolutions are 9x9 and keep the image size; each is followed by BatchNorm and ReLU. The paper mentions no
BatchNorm here, but without it, feedback learned from a random start diverges. After Lindsey, Ocko, Ganguli and Deny
2019, arXiv:1901.00945. arXiv:2502.20580, section on receptive fields: 32 channels and a classifier 32768-1024-10 on
CIFAR-10.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from bench.data.base import Data
from bench.models._receptive_fields import by_ascent, by_noise, rounded
from bench.models.base import Network


class Retina(Network):
    """B1 is the feedback of the second retinal convolution; the first sends no error down.

    B2 is the feedback of the first convolution after the retina, through which all error to the retina passes. B3 and
    B4 belong to the other convolutions, B5 and B6 to the hidden and the output layer of the classifier (dropout 0.5).

    `bottleneck` is the number of channels that the retina sends on; None means `channels`. Colour images are converted
    to luminance from channels normalised over the training set to mean 0 and variance 1. `retina` maps grey images (N,
    1, H, W) to the retina's output.
    """

    version = 1
    output_module = "classifier.3"
    luminance: Tensor

    def __init__(self, data: Data, channels: int = 32, bottleneck: int | None = None, hidden: int = 1024) -> None:
        super().__init__()
        colours, height, width = data.train.inputs.shape[1:]
        luminance = torch.tensor(LUMINANCE if colours == 3 else [1.0])
        self.register_buffer("luminance", luminance.view(1, -1, 1, 1), persistent=False)
        self.sent = bottleneck or channels
        self.retina = nn.Sequential(*_convolution(1, channels), *_convolution(channels, self.sent))
        self.ventral = nn.Sequential(
            *_convolution(self.sent, channels), *_convolution(channels, channels), *_convolution(channels, channels)
        )
        self.classifier = nn.Sequential(
            nn.Linear(channels * height * width, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, data.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        grey = F.conv2d(x, self.luminance)
        return self.classifier(self.ventral(self.retina(grey)).flatten(1))

    def feedback_layers(self) -> dict[str, str]:
        names = ["retina.3", "ventral.0", "ventral.3", "ventral.6", "classifier.0", "classifier.3"]
        return {f"B{number}": name for number, name in enumerate(names, 1)}

    def centre_units(self, images: Tensor) -> Tensor:
        """Responses (N, channels) of the retina's units at the middle of grey images (N, 1, 17, 17): all that they see.

        In eval mode, before the last ReLU. Gradients are exact, whatever the rule.
        """
        first, first_norm, _, second, second_norm, _ = self.retina
        hidden = F.conv2d(images, *_merged(first, first_norm, images.dtype)).relu()
        return F.conv2d(hidden, *_merged(second, second_norm, images.dtype)).flatten(1)

    def measure_trained(self, inputs: Tensor) -> dict[str, Any]:
        """For each channel of the retina's last layer: two receptive fields, and how often it is active.

        `ascent` and `noise` are those of `bench.models._receptive_fields`, computed on the CPU; `active` is the share
        of images and positions of `inputs` at which the ReLU is active.
        """
        fields = {"ascent": by_ascent, "noise": by_noise}
        with torch.no_grad():
            active = (self.retina(F.conv2d(inputs, self.luminance)) > 0).double().mean((0, 2, 3))
        return {
            "receptive_fields": {
                **{name: rounded(find(self.centre_units, self.sent, SEEN)) for name, find in fields.items()},
                "active": [float(f"{share:.4g}") for share in active.tolist()],
            }
        }


def _convolution(below: int, above: int) -> list[nn.Module]:
    return [nn.Conv2d(below, above, 9, padding=4), nn.BatchNorm2d(above), nn.ReLU(inplace=True)]


def _merged(layer: nn.Module, norm: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias, on the CPU, of the convolution equivalent to a convolution and its batch norm in eval mode."""
    assert isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    weight, bias = fuse_conv_bn_weights(layer.weight, layer.bias, mean, variance, norm.eps, norm.weight, norm.bias)
    return weight.detach().to("cpu", dtype), bias.detach().to("cpu", dtype)


SEEN = 17
"""Side, in pixels, of the image seen by a unit of the retina's last layer, through two 9x9 convolutions."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""

MODEL = Retina
