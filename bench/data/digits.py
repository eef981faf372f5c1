"""Handwritten digits, 8 x 8 grey pixels: real images that need no download."""

from pathlib import Path

from bench.data.base import Data, Dataset, Split, digest


class Digits(Dataset):
    """The 1,797 images, levels 0 to 16 rescaled to 0 to 255, in a fixed shuffle stratified by class."""

    name = "digits"
    note = (
        "Test part of the UCI set 'Optical Recognition of Handwritten Digits' (Alpaydin and Kaynak 1998, CC BY 4.0), "
        "as scikit-learn ships it."
    )
    how_to_get = "built in (scikit-learn)"
    outputs = 10
    sizes = (1_297, 500)
    made_with = ("scikit-learn", "numpy")

    def read(self, folder: Path) -> Data:
        import torch
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        pixels = (images * 255 / 16).round().astype("uint8").reshape(-1, 1, 8, 8)
        parts = train_test_split(pixels, labels, test_size=self.sizes[1], stratify=labels, random_state=0)
        train_inputs, test_inputs, train_targets, test_targets = map(torch.from_numpy, parts)
        train, test = Split(train_inputs, train_targets.long()), Split(test_inputs, test_targets.long())
        sha256 = {"train": digest(train.inputs, train.targets), "test": digest(test.inputs, test.targets)}
        return Data(self.name, train, test, self.outputs, sha256)


DATASET = Digits()
