"""CIFAR from any container: the same tensors and the same run; and a container that is not it, refused in one line."""

import hashlib
import io
import json
import os
import pickle
import re
import struct
import sys
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import bench.data
from bench.cli import main
from bench.config import Config
from bench.data import DATASETS, _cache, load, resolve, status
from bench.data._cifar import digests as digests_of
from bench.errors import UsageError
from bench.records.store import Store
from bench.sweeps.groups import run

SIZES = {"train": 40, "test": 20}
HUB_COLUMNS = {"cifar10": ("img", "label"), "cifar100": ("img", "fine_label")}
TIMES = ("seconds", "peak_memory_bytes", "source", "seal")


def images(seed, count):
    """Pixels (N, 32, 32, 3) and labels of images that are no noise, so that a network learns something."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    pixels = rng.integers(0, 56, (count, 32, 32, 3)) + 20 * labels[:, None, None, None]
    pixels[-1], labels[-1] = pixels[0], labels[0]  # as the real ones, some are twice there
    return pixels.astype(np.uint8), labels.tolist()


IMAGES = {split: images(seed, count) for seed, (split, count) in enumerate(SIZES.items())}


def digests(split):
    """Of each image, as the specification words it."""
    channels_first = IMAGES[split][0].transpose(0, 3, 1, 2)
    rows = zip(IMAGES[split][1], channels_first, strict=True)
    return [hashlib.sha256(bytes([label]) + pixels.tobytes()).digest() for label, pixels in rows]


SUMS = {split: hashlib.sha256(b"".join(sorted(digests(split)))).hexdigest() for split in SIZES}


def shuffled(split, seed):
    order = np.random.default_rng(seed).permutation(SIZES[split])
    return IMAGES[split][0][order], [IMAGES[split][1][row] for row in order]


def encoded(pixels, format="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    return {"bytes": file.getvalue(), "path": None}


def write_parquet(path, pictures, labels, columns=("image", "label")):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(zip(columns, (pictures, labels), strict=True))), path)


class Python2Pickler(pickle._Pickler):
    """Protocol 2 with byte strings as Python 2 wrote them, as in the official archives."""

    dispatch = pickle._Pickler.dispatch | {
        bytes: lambda self, text: self.write(b"T" + struct.pack("<i", len(text)) + text) or self.memoize(text)
    }


def pickled(content):
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(content)
    return file.getvalue().replace(b"numpy._core.", b"numpy.core.")


def write_archive(dataset, folder, packed=False):
    archive = dataset.archive
    batches = folder / archive.folder
    batches.mkdir(parents=True)
    for split in SIZES:
        names = getattr(archive, split)
        pixels, labels = shuffled(split, 1)
        pixels = pixels.transpose(0, 3, 1, 2).reshape(-1, 3072)
        for name, rows in zip(names, np.array_split(np.arange(SIZES[split]), len(names)), strict=True):
            batch = {b"data": pixels[rows], archive.labels.encode(): [labels[row] for row in rows]}
            (batches / name).write_bytes(pickled(batch))
    (batches / "batches.meta").write_bytes(pickled({b"label_names": [b"a", b"b"]}))
    if packed:
        with tarfile.open(folder / archive.file, "w:gz") as tar:
            tar.add(batches, archive.folder)
        for path in batches.iterdir():
            path.unlink()
        batches.rmdir()


def write_hub(dataset, folder, pattern="plain_text/{}-{:05}-of-{:05}.parquet"):
    for split, shards in (("train", 3), ("test", 1)):
        pixels, labels = shuffled(split, 2)
        for shard, rows in enumerate(np.array_split(np.arange(SIZES[split]), shards)):
            path = folder / dataset.name / pattern.format(split, shard, shards)
            pictures = [encoded(pixels[row]) for row in rows]
            write_parquet(path, pictures, [labels[row] for row in rows], HUB_COLUMNS[dataset.name])


def write_shared(dataset, folder):
    for split in SIZES:
        pixels, labels = shuffled(split, 3)
        pictures = [encoded(image, "WEBP") for image in pixels]
        write_parquet(folder / dataset.name / f"{split}.parquet", pictures, labels)


CONTAINERS = {
    "extracted": write_archive,
    "packed": partial(write_archive, packed=True),
    "hub": write_hub,
    "converted by the hub": partial(write_hub, pattern="default/{}/{:04}.parquet"),
    "shared": write_shared,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only data folder, empty, with an empty cache."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    bench.data._loaded.cache_clear()
    yield tmp_path / "data"
    bench.data._loaded.cache_clear()


def small(name, monkeypatch):
    dataset = DATASETS.get(name)
    monkeypatch.setattr(dataset, "sizes", tuple(SIZES.values()))
    monkeypatch.setattr(dataset, "sha256", SUMS)
    return dataset


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, monkeypatch, folder):
    """A CIFAR of 40 and 20 images."""
    return small(request.param, monkeypatch)


@pytest.fixture
def cifar10(monkeypatch, folder):
    return small("cifar10", monkeypatch)


def is_right(data):
    """The images in the order of their digests."""
    for name in SIZES:
        split = getattr(data, name)
        order = sorted(range(SIZES[name]), key=digests(name).__getitem__)
        pixels, labels = IMAGES[name]
        assert torch.equal(split.inputs, torch.from_numpy(pixels[order].transpose(0, 3, 1, 2)))
        assert split.targets.tolist() == [labels[row] for row in order]
        assert split.inputs.is_contiguous() and split.targets.dtype == torch.int64
    return data.sha256 == SUMS


def refused(*words, name="cifar10"):
    with pytest.raises(UsageError) as error:
        load(name)
    message = str(error.value)
    assert "\n" not in message
    assert all(str(word) in message for word in words), message
    assert not _cache.files()
    return message


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_tensors(container, cifar, folder):
    CONTAINERS[container](cifar, folder)
    assert is_right(load(cifar.name)) and is_right(load(cifar.name))


def test_a_run_is_the_same_from_every_container(cifar10, folder, tmp_path, monkeypatch):
    config = Config(
        model="mlp", dataset="cifar10", rule="ldfa", rank="4", epochs=2, batch_size=8, model_options={"width": 8}
    )
    records = []
    for container, write in CONTAINERS.items():
        data = tmp_path / container
        monkeypatch.setenv("BENCH_DATA", str(data))
        bench.data._loaded.cache_clear()
        write(cifar10, data)
        record = run(config, Store(tmp_path / "results" / container), "run", "quick", "cpu")
        assert record["status"] == "ok"
        for entry in [record, *record["history"]]:
            for field in TIMES:
                entry.pop(field, None)
        records.append(json.dumps(record))
    assert len(records) == len(CONTAINERS) and len(set(records)) == 1
    assert json.loads(records[0])["data"] == {"name": "cifar10", "sha256": SUMS}


def test_a_changed_pixel_or_label_is_refused(cifar10, folder):
    write_hub(cifar10, folder)
    path = folder / "cifar10/plain_text/train-00001-of-00003.parquet"
    rows = pq.read_table(path).to_pydict()
    image = np.array(Image.open(io.BytesIO(rows["img"][3]["bytes"])))
    image[5, 6, 1] ^= 1
    write_parquet(path, [*rows["img"][:3], encoded(image), *rows["img"][4:]], rows["label"], ("img", "label"))
    refused(folder / "cifar10", "some of 40 images", "'train'", SUMS["train"])
    labels = [(rows["label"][0] + 1) % 10, *rows["label"][1:]]
    write_parquet(path, rows["img"], labels, ("img", "label"))
    refused(folder / "cifar10", "some of 40 images", "'train'", SUMS["train"])
    write_parquet(path, rows["img"], rows["label"], ("img", "label"))
    assert is_right(load("cifar10"))
    write_parquet(path, rows["img"], labels, ("img", "label"))
    with pytest.raises(UsageError, match="1 of 40 images in the split 'train' are not of cifar10; "):
        load("cifar10")


def test_missing_and_surplus_images_are_counted(cifar10, folder):
    write_hub(cifar10, folder)
    shard = folder / "cifar10/plain_text/train-00001-of-00003.parquet"
    shard.rename(folder / "kept")
    refused(folder / "cifar10", "27 images", "'train'", "expected: 40")
    (folder / "kept").rename(shard)
    shard.with_name("train.parquet").write_bytes(shard.read_bytes())
    shard.with_name("train.parquet").rename(folder / "cifar10/train.parquet")
    refused(folder / "cifar10", "53 images", "'train'", "expected: 40")


def test_a_lossy_copy_is_refused(cifar10, folder):
    for split in SIZES:
        pictures = [encoded(image, "JPEG") for image in IMAGES[split][0]]
        write_parquet(folder / "cifar10" / f"{split}.parquet", pictures, IMAGES[split][1])
    refused(folder / "cifar10", "40", SUMS["train"])


PICTURE = IMAGES["train"][0][0]
WRONG = {
    "size": (encoded(np.zeros((32, 33, 3), np.uint8)), "RGB of 33 x 32"),
    "grey": (encoded(PICTURE[:, :, 0]), "L of 32 x 32"),
    "alpha": (encoded(np.dstack([PICTURE, PICTURE[:, :, :1]])), "RGBA of 32 x 32"),
    "huge": (encoded(np.zeros((1, 100_000_001), np.uint8)), "exceeds limit"),
    "gif": (encoded(PICTURE, "GIF"), "none of PNG, WEBP, JPEG"),
    "eps": (encoded(PICTURE, "EPS"), "none of PNG, WEBP, JPEG"),
    "cut": ({"bytes": encoded(PICTURE)["bytes"][:200], "path": None}, ""),
    "text": ({"bytes": b"image", "path": None}, "none of PNG, WEBP, JPEG"),
    "empty": ({"bytes": None, "path": "elsewhere.png"}, "no image bytes"),
    "null": (None, "no image bytes"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_no_image_of_the_dataset_is_named_by_file_and_row(fault, cifar10, folder, recwarn):
    picture, words = WRONG[fault]
    write_shared(cifar10, folder)
    path = folder / "cifar10/test.parquet"
    rows = pq.read_table(path).to_pydict()
    write_parquet(path, [*rows["image"][:7], picture, *rows["image"][8:]], rows["label"])
    refused(f"{path}: row 7: ", words)
    assert not recwarn.list


@pytest.mark.parametrize("label", [10, -1, None])
def test_labels_out_of_range_are_refused(label, cifar10, folder):
    write_shared(cifar10, folder)
    path = folder / "cifar10/train.parquet"
    rows = pq.read_table(path).to_pydict()
    write_parquet(path, rows["image"], [*rows["label"][:-1], label])
    refused(f"{path}: row 39: the label is {label}", "0 to 9")


@pytest.mark.parametrize("columns", [("image", "labels"), ("picture", "label"), ("image", "fine_label")])
def test_a_missing_column_is_named(columns, cifar10, folder):
    write_shared(cifar10, folder)
    path = folder / "cifar10/train.parquet"
    rows = pq.read_table(path).to_pydict()
    write_parquet(path, rows["image"], rows["label"], columns)
    refused(path, ", ".join(columns), "'image' and 'label'")


def test_columns_of_another_type_are_named(cifar10, folder):
    write_shared(cifar10, folder)
    path = folder / "cifar10/train.parquet"
    write_parquet(path, [b"image"], [1])
    refused(path, "binary", "int64")
    write_parquet(path, [encoded(PICTURE)], ["cat"])
    refused(path, "struct", "string")


@pytest.mark.parametrize("left", [0, 3, 2000, -1])
def test_a_truncated_file_is_named(left, cifar10, folder):
    write_shared(cifar10, folder)
    path = folder / "cifar10/train.parquet"
    path.write_bytes(path.read_bytes()[:left])
    refused(path, "truncated or altered")


@pytest.mark.parametrize("left", [0, 3, 2000, 100_000])
def test_a_truncated_archive_is_named(left, cifar10, folder):
    write_archive(cifar10, folder, packed=True)
    path = folder / cifar10.archive.file
    path.write_bytes(path.read_bytes()[:left])
    refused(path, "truncated or altered")


def test_a_damaged_or_missing_batch_is_named(cifar10, folder):
    write_archive(cifar10, folder)
    path = folder / cifar10.archive.folder / "data_batch_3"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    refused(path, "truncated or altered")
    path.write_bytes(pickled({b"data": PICTURE.reshape(1, 3072), b"labels": [10]}))
    refused(path, "row 0", "10", "0 to 9")
    path.write_bytes(pickled({b"data": PICTURE.reshape(2, 1536), b"labels": [1, 2]}))
    refused(path, "(2, 1536)")
    path.write_bytes(pickled({b"data": PICTURE.reshape(1, 3072), b"fine_labels": [1]}))
    refused(path, "labels")
    path.unlink()
    refused(path, "missing")


@pytest.mark.parametrize("call", [os.system, eval, np.save])
def test_no_code_of_a_batch_is_run(call, cifar10, folder, tmp_path):
    class Attack:
        def __reduce__(self):
            touched = str(tmp_path / "touched")
            return call, (touched, PICTURE) if call is np.save else (f"open({touched!r}, 'w')",)

    write_archive(cifar10, folder)
    path = folder / cifar10.archive.folder / "test_batch"
    path.write_bytes(pickle.dumps(Attack()))
    refused(path, "names", call.__name__)
    assert not list(tmp_path.glob("touched*"))


def test_status_looks_and_check_reads(cifar10, folder):
    write_shared(cifar10, folder)

    def row(check=False):
        return next(row for row in status(check) if row.name == "cifar10")

    assert row()[1:4] == (str(folder), False, None)
    assert row(check=True).verified and row().verified
    path = folder / "cifar10/test.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert row()[2:4] == (False, None)
    assert not row(check=True).verified and str(path) in row(check=True).problem


def test_check_ends_with_1_and_a_line_for_what_is_wrong(cifar10, folder, capsys):
    write_shared(cifar10, folder)
    assert main(["data", "--check"]) == 0
    capsys.readouterr()
    path = folder / "cifar10/test.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["data"]) == 0
    assert "not yet" in capsys.readouterr().out
    assert main(["data", "--check"]) == 1
    table, line = capsys.readouterr().out.rstrip().rsplit("\n", 1)
    assert line.startswith(f"cifar10: {path} is truncated") and "no, see below" in table


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a web server, on this machine, of `tmp_path / "source"`."""
    monkeypatch.setenv("no_proxy", "*")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "source")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_archive_is_downloaded(cifar, folder, tmp_path, server, monkeypatch):
    write_archive(cifar, tmp_path / "source", packed=True)
    monkeypatch.setattr(type(cifar.archive), "url", f"{server}/{cifar.archive.file}")
    cifar.download(folder)
    assert is_right(load(cifar.name))
    assert list(folder.iterdir()) == [folder / cifar.archive.file]


def test_the_hub_serves_where_the_archive_fails(cifar, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(type(cifar.archive), "url", f"http://127.0.0.1:1/{cifar.archive.file}")
    monkeypatch.setattr(cifar, "hub", str(tmp_path / "hub" / cifar.name))
    with pytest.raises(UsageError, match=r"could not be downloaded: .*refused.*; then from the hub: "):
        cifar.download(folder)
    write_hub(cifar, tmp_path / "hub", "{}-{:05}-of-{:05}.parquet")
    cifar.download(folder)
    assert is_right(load(cifar.name)) and list(folder.iterdir()) == [folder / cifar.name]


def test_the_hub_is_asked_for_one_commit(cifar, tmp_path, monkeypatch):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((*arguments, options.pop("revision")))
        return {}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    cifar._from_hub(tmp_path)
    ((hub, revision),) = asked
    assert hub == f"uoft-cs/{cifar.name}" and re.fullmatch("[0-9a-f]{40}", revision)


def test_a_download_of_other_images_is_not_kept(cifar10, folder, tmp_path, server, monkeypatch):
    write_archive(cifar10, tmp_path / "source", packed=True)
    monkeypatch.setattr(type(cifar10.archive), "url", f"{server}/{cifar10.archive.file}")
    monkeypatch.setattr(cifar10, "hub", str(tmp_path / "nowhere"))
    monkeypatch.setattr(cifar10, "sha256", SUMS | {"test": "0" * 64})
    with pytest.raises(UsageError, match=SUMS["test"]):
        cifar10.download(folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("name", "means"), [("cifar10", (0.4914, 0.482158, 0.446531)), ("cifar100", (0.507075, 0.486549, 0.440918))]
)
def test_the_real_images_are_those_of_the_specification(name, means):
    try:
        data = load(resolve(name))
    except UsageError:
        pytest.skip(f"{name} is in no folder of BENCH_DATA")
    assert data.channel_statistics[0].flatten().tolist() == pytest.approx(means, abs=1e-6)
    assert torch.bincount(data.test.targets).tolist() == [10_000 // data.outputs] * data.outputs
    for split, expected in data.sha256.items():
        in_order = digests_of(getattr(data, split))
        assert in_order == sorted(in_order) and hashlib.sha256(b"".join(in_order)).hexdigest() == expected
