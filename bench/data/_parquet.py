"""Images in Parquet files, in the layout of the Hugging Face `Image` feature."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from bench.data.base import Data, Dataset, Split, check_file

FILES = ("train.parquet", "test.parquet")


class ParquetImages(Dataset):
    """`NAME/train.parquet` and `NAME/test.parquet` below a data folder, of known SHA-256.

    sha256: hex digest by file name.
    """

    sha256: dict[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"{self.name}/{file}" for file in FILES)

    def verify(self, folder: Path) -> None:
        for file in FILES:
            check_file(folder / self.name / file, self.sha256[file])

    def read(self, folder: Path) -> Data:
        self.verify(folder)
        train, test = (read_split(folder / self.name / file) for file in FILES)
        return Data(self.name, train, test, self.outputs, self.sha256)


def read_split(path: Path) -> Split:
    """Decode the columns `image: {bytes, path}` (JPEG or PNG of one size) and `label`; grey images become RGB.

    60,000 images of 32 x 32 pixels take five to seven seconds on one core.
    """
    table = pq.read_table(path)
    pixels = np.stack([_rgb(image["bytes"]) for image in table["image"].to_pylist()])
    return Split(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(table["label"].to_pylist()))


def _rgb(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
