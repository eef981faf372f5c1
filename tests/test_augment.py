"""The augmentations of image batches, against one image at a time."""

import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Generator
from torchvision import transforms
from torchvision.transforms import functional as tv

import bench.training.augment.autoaugment
from bench.errors import UsageError
from bench.training.augment import ALLOWED, augmentation
from bench.training.augment.geometry import Crop, Cutout, Flip, Rotate

SPECS = ["autoaugment", "crop:4", "cutout:16", "flip", "rotate:10"]


def images(n=16, height=9, width=12):
    return torch.rand(n, 3, height, width, generator=Generator().manual_seed(0))


def draws(spec, n):
    return augmentation(spec).draw(n, Generator().manual_seed(1))


def test_flip_mirrors_left_to_right():
    x = images(n=4, height=8, width=8)
    flipped = Flip().apply(x, torch.tensor([True, False, True, False]))
    assert torch.equal(flipped[0], x[0].flip(-1)) and torch.equal(flipped[1], x[1])
    assert torch.equal(Flip().apply(Flip().apply(x, torch.ones(4) > 0), torch.ones(4) > 0), x)
    assert Flip().draw(10_000, Generator().manual_seed(0)).float().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotation_by_quarter_turns(size, turns):
    x = images(n=4, height=size, width=size)
    rotated = Rotate(90).apply(x, torch.full((len(x),), turns * torch.pi / 2))
    assert torch.equal(rotated, x.rot90(turns, (-2, -1)))


def test_rotation_fills_with_black():
    rotated = Rotate(45).apply(torch.ones(1, 1, 9, 9), torch.tensor([torch.pi / 4]))[0, 0]
    assert rotated[0, 0] == rotated[-1, -1] == 0 and rotated[3:6, 3:6].min() == 1


def test_rotation_angles_cover_both_directions():
    angles = augmentation("rotate:10").draw(10_000, Generator().manual_seed(0)).rad2deg()
    assert angles.min() == pytest.approx(-10, abs=0.01) and angles.max() == pytest.approx(10, abs=0.01)
    assert angles.mean() == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("pixels", [1, 4])
def test_crop_is_that_of_each_image_at_its_offset(pixels):
    x, offsets = images(), torch.randint(0, 2 * pixels + 1, (16, 2), generator=Generator().manual_seed(1))
    cropped = Crop(pixels).apply(x, (offsets + 0.5) / (2 * pixels + 1))
    for one, image, (top, left) in zip(cropped, x, offsets.tolist(), strict=True):
        assert torch.equal(one, tv.crop(tv.pad(image, pixels), top, left, 9, 12))


@pytest.mark.parametrize("size", [3, 4, 20])
def test_cutout_leaves_all_but_a_square_clipped_at_the_border(size):
    x, drawn = images(n=200), draws(f"cutout:{size}", 200)
    pixels = (drawn * torch.tensor([9, 12])).long().tolist()
    for one, image, (row, column) in zip(Cutout(size).apply(x, drawn), x, pixels, strict=True):
        top, left = row - size // 2, column - size // 2
        expected = image.clone()
        expected[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
        assert torch.equal(one, expected)


@pytest.mark.parametrize("spec", SPECS)
def test_pixels_move_alike_as_bytes_and_as_floats(spec):
    change, drawn = augmentation(spec), draws(spec, 16)
    pixels = (255 * images()).to(torch.uint8)
    if change.moves_pixels:
        moved = change.apply(pixels, drawn)
        assert moved.dtype == torch.uint8
        torch.testing.assert_close(moved.float() / 255, change.apply(pixels.float() / 255, drawn), rtol=0, atol=0)
    else:
        assert spec in ("autoaugment", "rotate:10")


def test_crops_and_cutouts_are_uniform():
    """A white pixel in the middle shows where the frame went, a black one where the cutout fell."""
    point = torch.zeros(1, 1, 7, 7)
    point[..., 3, 3] = 1
    many = (49_000, -1, -1, -1)
    moved = Crop(3).apply(point.expand(many), draws("crop:3", 49_000))
    cut = 1 - Cutout(1).apply(torch.ones(1, 1, 7, 7).expand(many), draws("cutout:1", 49_000))
    for counts in (moved.sum((0, 1)), cut.sum((0, 1))):
        assert counts.sum() == 49_000 and counts.min() > 850 and counts.max() < 1150


def test_autoaugment_is_that_of_torchvision(monkeypatch):
    """On pieces of a photograph, each pair of changes; torchvision rounds to whole levels after each change.

    Left out is `Color` before `Equalize`, which magnifies the rounding; each of them is in other pairs too.
    """
    photograph = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    x = photograph.unfold(1, 32, 32).unfold(2, 32, 32).flatten(1, 2).transpose(0, 1)
    drawn = draws("autoaugment", len(x))
    reference = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    compared = set()
    for changed, image, row in zip(augmentation("autoaugment").apply(x / 255, drawn), x, drawn, strict=True):
        pair = int(row[0] * 25)
        if [name for name, _, _ in reference.policies[pair]] != ["Color", "Equalize"]:
            drawn_there = pair, row[1::2], row[2::2] >= 0.5
            monkeypatch.setattr(reference, "get_params", lambda _, drawn_there=drawn_there: drawn_there)
            levels_off = (changed * 255 - reference(image)).abs()
            assert (levels_off > 3).float().mean() < 0.01
            compared.add(pair)
    assert len(compared) == 24


@pytest.mark.parametrize("spec", SPECS)
def test_the_same_numbers_change_the_same_images_alike(spec):
    change, x = augmentation(spec), images(height=32, width=32).double()
    before, drawn = x.clone(), draws(spec, len(x))
    assert torch.equal(change.apply(x, drawn), change.apply(x, drawn)) and torch.equal(x, before)
    parts = [change.apply(x[part], drawn[part]) for part in (slice(0, 5), slice(5, None))]
    torch.testing.assert_close(torch.cat(parts), change.apply(x, drawn))


@pytest.mark.parametrize(
    "spec",
    [
        *("", "autoaugment:1", "Flip", "flip:1", "rotate", "rotate:", "rotate:x"),
        *("crop", "crop:", "crop:0", "crop:-4", "crop:1.5", "cutout", "cutout:x"),
    ],
)
def test_an_augmentation_written_otherwise(spec):
    with pytest.raises(UsageError) as error:
        augmentation(spec)
    assert str(error.value) == f"augment: {spec!r} is not allowed; expected: {ALLOWED}"


def test_autoaugment_of_all_images_at_once_as_on_a_gpu_is_that_of_each(monkeypatch):
    x, drawn = images(n=300, height=32, width=32), draws("autoaugment", 300)
    expected = augmentation("autoaugment").apply(x, drawn)
    monkeypatch.setattr(
        bench.training.augment.autoaugment, "_some_changed", bench.training.augment.autoaugment._all_changed
    )
    torch.testing.assert_close(augmentation("autoaugment").apply(x, drawn), expected, rtol=0, atol=1e-6)
