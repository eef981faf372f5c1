"""CIFAR-10: 32 x 32 colour photographs of 10 classes."""

import torchvision

from bench.data._cifar import Cifar


class Cifar10(Cifar):
    name = "cifar10"
    outputs = 10
    archive = torchvision.datasets.CIFAR10
    hub = "uoft-cs/cifar10"
    columns = ("img", "label")


DATASET = Cifar10()
