"""Images in Parquet files, in the layout of the Hugging Face `Image` feature."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from bench.data.base import Split
from bench.errors import UsageError

COLUMNS = (("image", "label"), ("img", "label"), ("img", "fine_label"))
"""Column names of images and labels: the defaults of `datasets`, and those of the hub's CIFAR-10 and CIFAR-100."""

FORMATS = ("PNG", "WEBP", "JPEG")
SIZE = (32, 32)


def read_split(paths: Sequence[Path], outputs: int) -> Split:
    """The rows of one or more files: RGB images of 32 x 32 pixels in PNG, WebP or JPEG, and labels below `outputs`.

    60,000 images take about five seconds on one core. Raises `UsageError` naming the file and the row, from 0.
    """
    parts = [_read(path, outputs) for path in paths]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Split(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))


def _read(path: Path, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 (N, 32, 32, 3), and labels, int64 (N,)."""
    try:
        with pq.ParquetFile(path) as file:
            columns = _columns(path, file.schema_arrow)
            images, labels = file.read(columns=columns).select(columns)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path} is truncated or altered: {' '.join(str(error).split())}") from None
    pixels = np.empty((len(images), *SIZE, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row, image in enumerate(images.to_pylist()):
            try:
                pixels[row] = np.asarray(_decoded((image or {}).get("bytes")))
            except Exception as error:  # Pillow may raise anything for damaged bytes
                raise UsageError(f"{path}: row {row}: {' '.join(str(error).split())}") from None
    for row, label in enumerate(labels.to_pylist()):
        if label is None or not 0 <= label < outputs:
            raise UsageError(f"{path}: row {row}: the label is {label}, expected: 0 to {outputs - 1}")
    return pixels, labels.to_numpy().astype(np.int64)


def _columns(path: Path, schema: pa.Schema) -> list[str]:
    """The names of the image and label columns."""
    for image, label in COLUMNS:
        if image in schema.names and label in schema.names:
            content, kind = schema.field(image).type, schema.field(label).type
            binary = pa.types.is_struct(content) and content.get_field_index("bytes") >= 0
            if not (binary and pa.types.is_integer(kind)):
                expected = "a struct with 'bytes', and integers"
                raise UsageError(
                    f"{path}: columns {image!r} and {label!r} are {content} and {kind}, expected: {expected}"
                )
            return [image, label]
    expected = "; ".join(" and ".join(map(repr, pair)) for pair in COLUMNS)
    raise UsageError(f"{path}: the columns are {', '.join(schema.names)}; expected: {expected}")


def _decoded(encoded: bytes | None) -> Image.Image:
    """The image; its size and mode are checked before its pixels are decoded."""
    if not isinstance(encoded, bytes):
        raise ValueError("there are no image bytes")
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise ValueError(f"the image format is none of {', '.join(FORMATS)}") from None
    if (image.mode, image.size) != ("RGB", SIZE):
        raise ValueError(
            f"the image is {image.mode} of {image.width} x {image.height} pixels, expected: RGB of 32 x 32"
        )
    return image
