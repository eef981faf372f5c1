"""CIFAR-100: 32 x 32 colour photographs of 100 classes (the fine labels)."""

from bench.data._archive import Archive
from bench.data._cifar import Cifar


class Cifar100(Cifar):
    name = "cifar100"
    outputs = 100
    archive = Archive(
        file="cifar-100-python.tar.gz",
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        labels="fine_labels",
    )
    hub = "uoft-cs/cifar100"
    revision = "aadb3af77e9048adbea6b47c21a81e47dd092ae5"
    sha256 = {
        "train": "6d2a03c47c105e4c34d3a2ff16c2803e8df0e5d6fa0c631e46663a327aeac573",
        "test": "381b7d98ce1e9b98232a8df0db0a22992654c39ff2433270656ab8ace5a45e65",
    }


DATASET = Cifar100()
