"""Datasets: reading, checksums, parts, the validation split, and what a user is told when something is wrong."""

import hashlib
import io
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bench.data import DATASETS, folders, groups, load, resolve, sizes, status
from bench.data.base import Data, Split, file_digest
from bench.data.linear_teacher import pseudo_samples, teacher
from bench.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
LABELS = [i % 10 for i in range(12)]


@contextmanager
def usage_error(*words):
    with pytest.raises(UsageError) as error:
        yield
    message = str(error.value)
    assert "\n" not in message
    assert all(str(word) in message for word in words), message


def encoded(pixels, format="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return {"bytes": file.getvalue(), "path": None}


def write_parquet(path, images, labels=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, "label": labels}), path)


def images(pixels):
    """(N, H, W, 3) array to (N, 3, H, W) tensor."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def is_the_original(data):
    """The 12 images are the training split, and in reverse order the test split."""
    return (
        torch.equal(data.train.inputs, images(PIXELS))
        and torch.equal(data.test.inputs, images(PIXELS[::-1].copy()))
        and (data.train.targets.tolist(), data.test.targets.tolist()) == (LABELS, LABELS[::-1])
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only data folder, empty, with an empty cache."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def parquet(folder, monkeypatch):
    """A `tiny-imagenet-32` of 12 lossless images, with its checksums; the test split is in reverse order."""
    files = {name: folder / "tiny-imagenet-32" / name for name in ("train.parquet", "test.parquet")}
    write_parquet(files["train.parquet"], [encoded(pixels) for pixels in PIXELS])
    write_parquet(files["test.parquet"], [encoded(pixels) for pixels in PIXELS[::-1]], LABELS[::-1])
    monkeypatch.setattr(DATASETS.get("tiny-imagenet-32"), "sha256", {name: file_digest(p) for name, p in files.items()})
    return files


def test_listing_the_names_does_not_import_torch():
    code = "import sys, bench.data; assert bench.data.DATASETS.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("name", DATASETS.names())
def test_a_dataset_describes_itself(name):
    dataset = DATASETS.get(name)
    assert dataset.name == name
    assert dataset.note and dataset.how_to_get and "\n" not in dataset.how_to_get


def test_digits_are_all_there_stratified_and_the_same_every_time():
    data, again = load("digits"), load("digits")
    assert data.train.inputs.shape == (1297, 1, 8, 8) and data.test.inputs.shape == (500, 1, 8, 8)
    assert data.train.inputs.dtype == torch.uint8 and data.train.inputs.unique().tolist()[::8] == [0, 128, 255]
    share = torch.bincount(data.test.targets) / torch.bincount(torch.cat([data.train.targets, data.test.targets]))
    assert (share - 500 / 1797).abs().max() < 0.005
    assert torch.equal(data.test.inputs, again.test.inputs) and data.sha256 == again.sha256
    test_bytes = data.test.inputs.numpy().tobytes() + data.test.targets.numpy().tobytes()
    assert data.sha256["test"] == hashlib.sha256(test_bytes).hexdigest()


def test_parquet_images_are_decoded_exactly(parquet):
    data = load("tiny-imagenet-32")
    assert is_the_original(data)
    assert data.train.targets.dtype == torch.int64 and not data.regression
    assert data.sha256 == {name: file_digest(path) for name, path in parquet.items()}


def test_an_altered_file_is_named_with_both_digests(parquet):
    path = parquet["test.parquet"]
    expected, found = file_digest(path), hashlib.sha256(path.read_bytes()[:-1]).hexdigest()
    path.write_bytes(path.read_bytes()[:-1])
    with usage_error(path, expected, found):
        load("tiny-imagenet-32")
    assert {row.name: row.verified for row in status()}["tiny-imagenet-32"] is False


def test_missing_files_say_where_was_looked_and_how_to_get_them(folder):
    with usage_error("tiny-imagenet-32", folder, DATASETS.get("tiny-imagenet-32").how_to_get):
        load("tiny-imagenet-32:5")
    with usage_error("cifar10 or tiny-imagenet-32", folder, "--download cifar10", "copy train.parquet"):
        resolve(["cifar10", "tiny-imagenet-32"])


def test_resolve_takes_the_first_that_is_here(parquet):
    assert resolve(["cifar10", "tiny-imagenet-32"]) == "tiny-imagenet-32"
    assert resolve(["digits:5", "tiny-imagenet-32"]) == "digits:5"
    assert resolve("tiny-imagenet-32:3") == "tiny-imagenet-32:3"
    with usage_error("unknown dataset", "'tiny-imagenet-23'", "did you mean 'tiny-imagenet-32'"):
        resolve(["tiny-imagenet-23", "digits"])


def test_folders_are_searched_in_order(parquet, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", os.pathsep.join(["nowhere", str(tmp_path)]))
    assert folders() == [Path("nowhere"), tmp_path]
    assert len(load("tiny-imagenet-32").train) == 12
    monkeypatch.delenv("BENCH_DATA")
    assert folders() == [Path("data")]


def test_status_has_a_row_a_dataset(parquet, folder):
    rows = {row.name: row for row in status()}
    assert list(rows) == DATASETS.names()
    assert rows["tiny-imagenet-32"][1:7] == (str(folder), False, None, 200, 100_000, 10_000)
    assert rows["digits"][1:7] == ("built in", None, None, 10, 1297, 500)
    assert rows["cifar100"].where is rows["cifar100"].verified is None


@pytest.mark.parametrize(
    "name",
    [
        *("digits:0", "digits:-1", "digits:x", "digits:", "digits:11", "linear-teacher:65"),
        *("digits:5@2", "digits:5@0", "digits:5@", "digits:5@1@1", "digits:@1", "linear-teacher:8@1"),
    ],
)
def test_a_bad_suffix_is_refused(name):
    with usage_error(name.split(":")[0], name.split(":")[1], "1"):
        load(name)


def test_the_teacher_needs_a_rank():
    with usage_error("linear-teacher", "rank", "linear-teacher:8"):
        load("linear-teacher")


def test_a_part_is_the_first_classes_of_both_splits():
    part, whole = load("digits:3"), load("digits")
    assert part.name == "digits:3" and part.outputs == 3
    for few, all_ in ((part.train, whole.train), (part.test, whole.test)):
        assert torch.equal(few.inputs, all_.inputs[all_.targets < 3])
        assert few.targets.unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize(("classes", "left"), [(5, 0), (3, 1)])
def test_groups_of_classes_are_disjoint_relabelled_and_cover_what_they_can(classes, left):
    whole = load("digits")
    parts = [load(name) for name in groups("digits", classes)]
    assert [p.name for p in parts] == [f"digits:{classes}", *(f"digits:{classes}@{g}" for g in range(1, len(parts)))]
    for split in ("train", "test"):
        originals = getattr(whole, split)
        for group, part in enumerate(parts):
            taken, first = getattr(part, split), group * classes
            mask = (originals.targets >= first) & (originals.targets < first + classes)
            assert torch.equal(taken.inputs, originals.inputs[mask])
            assert torch.equal(taken.targets + first, originals.targets[mask])
            assert taken.targets.unique().tolist() == list(range(part.outputs)) == list(range(classes))
        covered = sum(len(getattr(part, split)) for part in parts)
        assert covered == (originals.targets < 10 - left).sum()


def test_sizes_and_groups_need_no_files(folder):
    assert sizes("tiny-imagenet-32:10@3") == (10, 5_000, 500)
    assert sizes("linear-teacher:8") == (64, 129, 129)
    assert groups("tiny-imagenet-32", 50, among=100) == ["tiny-imagenet-32:50", "tiny-imagenet-32:50@1"]
    assert groups("cifar100", 200) == []


def test_holdout_divides_the_training_split_the_same_way_every_time():
    train = Split(torch.arange(50_000).view(-1, 1, 1, 1), torch.arange(50_000))
    data = Data("numbers", train, Split(train.inputs[:1], -train.targets[1:2]), 50_000, {})
    held, again = data.holdout(), data.holdout()
    assert len(held.train) == 45_000 and len(held.test) == 5_000
    assert torch.cat([held.train.targets, held.test.targets]).sort().values.equal(train.targets)
    assert held.test.inputs.flatten().equal(held.test.targets) and not held.test.targets.equal(torch.arange(5_000))
    assert held.test.targets.equal(again.test.targets)


def test_pseudo_samples_keep_moments_and_gradients():
    rng = torch.Generator().manual_seed(0)
    samples = 3 * torch.randn(5000, 128, generator=rng, dtype=torch.float64) + 1
    target, weight = teacher(8, seed=0), torch.randn(64, 128, generator=rng, dtype=torch.float64).requires_grad_()
    points = pseudo_samples(samples)
    assert points.shape == (129, 128)
    torch.testing.assert_close(points.mean(0), samples.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(points.T @ points / 129, samples.T @ samples / 5000, rtol=1e-12, atol=1e-12)

    def gradient(x):
        return torch.autograd.grad((x @ (target - weight).T).square().sum(1).mean() / 2, weight)[0]

    torch.testing.assert_close(gradient(points), gradient(samples), rtol=1e-10, atol=1e-10)


def test_the_teacher_has_its_rank_and_its_samples_are_100_000_normal_ones():
    data = load("linear-teacher:8", seed=3)
    target = teacher(8, seed=3)
    assert data.name == "linear-teacher:8" and data.outputs == 64 and data.regression
    assert torch.linalg.matrix_rank(target) == 8
    assert target.var().item() == pytest.approx(8 / 64, rel=0.2)
    for split in (data.train, data.test):
        assert split.inputs.shape == (129, 128) and split.inputs.dtype == torch.float64
        assert torch.equal(split.targets, split.inputs @ target.T)
        assert (100_000**0.5 * split.inputs.mean(0)).std().item() == pytest.approx(1, rel=0.25)
        assert (split.inputs.square().mean(0) - 1).abs().max() < 0.02
    assert not torch.allclose(data.train.inputs.mean(0), data.test.inputs.mean(0), atol=1e-4)


def test_the_seed_alone_decides_the_teacher():
    torch.manual_seed(0)
    first = load("linear-teacher:2", seed=0)
    torch.manual_seed(1)
    assert load("linear-teacher:2", seed=0).sha256 == first.sha256
    assert first.sha256["train"] != first.sha256["test"]
    assert not torch.allclose(teacher(2, seed=0), teacher(2, seed=1))
    with usage_error("validation split"):
        first.holdout()


@pytest.mark.parametrize(
    ("name", "classes"),
    [("cifar10", 10), ("cifar100", 100), pytest.param("tiny-imagenet-32", 200, marks=pytest.mark.slow)],
)
def test_the_real_test_splits_are_balanced_colour_photographs(name, classes):
    try:
        split = load(resolve(name)).test
    except UsageError:
        pytest.skip(f"{name} is in no folder of BENCH_DATA")
    assert torch.bincount(split.targets).tolist() == [10_000 // classes] * classes
    red, green, blue = (split.inputs.float() / 255).mean((0, 2, 3)).tolist()
    assert 0.52 > red > green > blue > 0.35
