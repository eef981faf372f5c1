"""Batches: every example once an epoch, in an order of the seed, normalised by the training set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import LDFA
from torch import Generator

from bench.data import load_once
from bench.data.base import Data, Split
from bench.training.batches import Batches
from bench.training.length import steps
from bench.training.loop import train

SHORT = replace(LDFA, batch_size=64, epochs=2, epoch_examples=200)


def test_a_short_epoch_draws_its_own_examples_and_the_test_is_whole():
    data = load_once("digits", 0)
    batches = Batches(data.train, data, replace(SHORT, augment=()))
    epochs = [torch.cat([x for x, _ in batches.shuffled(Generator().manual_seed(seed))]).flatten(1) for seed in (0, 1)]
    assert len(batches) == 4 and [len(epoch.unique(dim=0)) for epoch in epochs] == [200, 200]
    assert len(torch.cat(epochs).unique(dim=0)) > 300
    assert sum(len(x) for x, _ in batches.in_order()) == len(data.train)
    whole = Batches(data.train, data, replace(SHORT, augment=(), epoch_examples=9999))
    assert sum(len(x) for x, _ in whole.shuffled(Generator().manual_seed(0))) == len(data.train)
    assert len(train(SHORT).first_losses) == steps(SHORT) == 8


def test_every_example_comes_once_an_epoch_in_another_order():
    data = load_once("digits", 0)
    batches = Batches(data.train, data, replace(LDFA, augment=()))
    epochs = [torch.cat([x for x, _ in batches.shuffled(Generator().manual_seed(seed))]) for seed in (0, 1)]
    in_order = torch.cat([x for x, _ in batches.in_order()])
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[0], in_order)
    for epoch in epochs:
        torch.testing.assert_close(epoch.sum(0), in_order.sum(0))
    assert in_order.mean() == pytest.approx(0, abs=1e-5) and in_order.std() == pytest.approx(1, abs=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_draws_are_shared_across_devices():
    on_cpu = load_once("digits", 0)
    on_gpu = on_cpu.to("cuda")
    pairs = [Batches(data.train, data, LDFA).shuffled(Generator().manual_seed(0)) for data in (on_cpu, on_gpu)]
    for (x, labels), (x_gpu, labels_gpu) in zip(*pairs, strict=True):
        assert torch.equal(labels, labels_gpu.cpu())
        torch.testing.assert_close(x, x_gpu.cpu())


def test_channel_statistics():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 5, 7), np.uint8)
    split = Split(torch.from_numpy(pixels), torch.zeros(20, dtype=torch.int64))
    mean, std = Data("noise", split, split, 1, {}).channel_statistics
    np.testing.assert_allclose(mean.flatten(), (pixels / 255).mean((0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(std.flatten(), (pixels / 255).std((0, 2, 3)), atol=1e-12)
    assert mean.shape == std.shape == (1, 3, 1, 1)
