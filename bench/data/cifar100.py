"""CIFAR-100: 32 x 32 colour photographs of 100 classes (the fine labels)."""

import torchvision

from bench.data._cifar import Cifar


class Cifar100(Cifar):
    name = "cifar100"
    outputs = 100
    archive = torchvision.datasets.CIFAR100
    hub = "uoft-cs/cifar100"
    columns = ("img", "fine_label")


DATASET = Cifar100()
