"""Decoded images in the cache: read in their place, and never where they may not be what the files hold."""

import io
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forks import FORKS
from PIL import Image

from bench.cli import main
from bench.data import DATASETS, _cache, load, status
from bench.data.base import file_digest
from bench.files import cache_folder

NAME = "tiny-imagenet-32"
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": [encoded(image) for image in pixels], "label": [3] * len(pixels)}), path)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A dataset of 12 and 5 images in the only data folder, with an empty cache; it counts how often it is decoded."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    dataset = DATASETS.get(NAME)
    files = {name: tmp_path / "data" / NAME / name for name in ("train.parquet", "test.parquet")}
    write(files["train.parquet"], PIXELS)
    write(files["test.parquet"], PIXELS[:5])
    monkeypatch.setattr(dataset, "sha256", {name: file_digest(path) for name, path in files.items()})

    def decode(folder, decode=dataset.decode):
        dataset.decoded += 1
        return decode(folder)

    monkeypatch.setattr(dataset, "decoded", 0, raising=False)
    monkeypatch.setattr(dataset, "decode", decode)
    return dataset


def is_right(data):
    inputs = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    return torch.equal(data.train.inputs, inputs) and torch.equal(data.test.inputs, inputs[:5])


def rewrite_keeping_time(path, content):
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=times)


def altered(content):
    """One byte of an image changed."""
    at = content.index(PIXELS[3].transpose(2, 0, 1).tobytes())
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def row():
    return next(row for row in status() if row.name == NAME)


def test_images_are_decoded_once_and_the_cached_ones_are_the_same(dataset):
    first, second = load(NAME), load(NAME)
    assert dataset.decoded == 1 and is_right(first) and is_right(second)
    assert first.sha256 == second.sha256 == dataset.sha256
    assert second.train.targets.tolist() == [3] * 12 and second.train.inputs.is_contiguous()


def test_reading_the_cache_takes_no_reader_of_images(dataset):
    load(NAME)
    code = (
        "import sys\nfrom bench.data import DATASETS, load, load_once\n"
        f"DATASETS.get({NAME!r}).sha256 = {dataset.sha256!r}\n"
        f"assert len(load({NAME!r}).train) == 12\n"
        "assert not {'pyarrow', 'PIL', 'torchvision', 'datasets', 'pandas'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_what_is_written_to_mapped_images_reaches_neither_file_nor_other_readers(dataset, recwarn):
    load(NAME)
    mine, other = load(NAME), load(NAME)
    mine.train.inputs.zero_()
    assert is_right(other) and is_right(load(NAME))
    assert dataset.decoded == 1 and not recwarn.list


@pytest.mark.parametrize("name", ["train.parquet", "test.parquet"])
def test_files_that_have_changed_are_read_again(name, dataset, tmp_path):
    load(NAME)
    path = tmp_path / "data" / NAME / name
    os.utime(path, ns=(0, 0))
    assert not row().verified
    assert is_right(load(NAME)) and dataset.decoded == 2 and row().verified
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Exception, match="truncated or altered"):
        load(NAME)


def test_other_checksums_or_another_folder_are_not_those_of_the_cache(dataset, tmp_path, monkeypatch):
    load(NAME)
    (tmp_path / "data").rename(tmp_path / "moved")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "moved"))
    assert is_right(load(NAME)) and dataset.decoded == 2
    monkeypatch.setattr(dataset, "sha256", dataset.sha256 | {"test.parquet": "0" * 64})
    with pytest.raises(Exception, match="truncated or altered"):
        load(NAME)


FAULTS = {
    "cut": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "text": lambda content: b"images",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_cache_is_made_again_even_where_its_time_is_kept(fault, dataset):
    load(NAME)
    path = _cache.file(NAME)
    rewrite_keeping_time(path, FAULTS[fault](path.read_bytes()))
    assert is_right(load(NAME)) and dataset.decoded == 2
    assert is_right(load(NAME)) and dataset.decoded == 2


def test_an_altered_byte_is_noticed_by_its_time(dataset):
    load(NAME)
    path = _cache.file(NAME)
    path.write_bytes(altered(path.read_bytes()))
    assert not row().verified
    assert is_right(load(NAME)) and dataset.decoded == 2


def test_an_altered_byte_of_the_old_time_is_noticed_by_check_alone(dataset, capsys):
    load(NAME)
    path = _cache.file(NAME)
    rewrite_keeping_time(path, altered(path.read_bytes()))
    assert row().verified and not is_right(load(NAME))
    assert main(["data", "--check"]) == 1
    assert f"{path} was altered" in capsys.readouterr().out.splitlines()[-1]
    assert is_right(load(NAME)) and main(["data", "--check"]) == 0


def test_data_says_where_the_cache_is_and_clears_it(dataset, tmp_path, capsys):
    load(NAME)
    other = tmp_path / "cache/weights.pt"
    other.write_text("kept")
    assert main(["data"]) == 0
    assert str(tmp_path / "cache") in capsys.readouterr().out
    assert main(["data", "--clear-cache"]) == 0
    assert list((tmp_path / "cache").iterdir()) == [other]
    assert is_right(load(NAME)) and dataset.decoded == 2


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("BENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "low-dimensional-feedback-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/low-dimensional-feedback-bench"


def test_a_cache_that_cannot_be_written_is_a_warning(dataset, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    assert is_right(load(NAME)) and is_right(load(NAME)) and dataset.decoded == 2
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2 and all(NAME in line and str(tmp_path / "file") in line for line in warnings)


def _load(sha256):
    DATASETS.get(NAME).sha256 = sha256
    return is_right(load(NAME))


def test_processes_at_once(dataset):
    with FORKS.Pool(2) as pool:
        assert all(pool.map(_load, [dataset.sha256] * 6))
    assert is_right(load(NAME)) and _cache.files() == [_cache.file(NAME)]
