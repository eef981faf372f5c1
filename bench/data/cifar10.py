"""CIFAR-10: 32 x 32 colour photographs of 10 classes."""

from bench.data._archive import Archive
from bench.data._cifar import Cifar


class Cifar10(Cifar):
    name = "cifar10"
    outputs = 10
    archive = Archive(
        file="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{batch}" for batch in range(1, 6)),
        test=("test_batch",),
        labels="labels",
    )
    hub = "uoft-cs/cifar10"
    revision = "0b2714987fa478483af9968de7c934580d0bb9a2"
    sha256 = {
        "train": "55a61f79a40ece2ceda9fb5f9f7078f6ea2fc4952489cef56682bcf92cfcc260",
        "test": "325704b01eb92e1e2a6215ae6a916bb7db7de054af0c496be1c7be2e0fcfbf5f",
    }


DATASET = Cifar10()
