"""Tiny ImageNet at 32 x 32 pixels; the labels are the sorted WordNet ids."""

from bench.data._images import ParquetImages


class TinyImagenet32(ParquetImages):
    name = "tiny-imagenet-32"
    note = (
        "Tiny ImageNet (Stanford CS231n, from ImageNet) as 32x32 JPEG, from the public repository "
        "DhanashriPalodkar/imageet32x32; the test split is the labelled validation split. ImageNet's terms: "
        "non-commercial research."
    )
    how_to_get = "copy train.parquet and test.parquet into tiny-imagenet-32/ in a data folder"
    outputs = 200
    sizes = (100_000, 10_000)
    balanced = True
    sha256 = {
        "train.parquet": "98a0ced49e5fccbcd266e58187fae2a1d2ede6872737f7fd736f670c14f6dc3a",
        "test.parquet": "60c06b1bdb8a0ea26c2dc41602582c2f573163bbc884a1b2d95f904941f61612",
    }


DATASET = TinyImagenet32()
