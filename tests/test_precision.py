"""What numbers training computes with, on a CPU and on a GPU."""

from dataclasses import replace

import pytest
import torch
from test_train import LDFA, result

import bench.training.learner
from bench.errors import UsageError
from bench.training.learner import prepare
from bench.training.loop import train
from bench.training.process import train_alone


def test_bfloat16_is_the_forward_pass_alone():
    """Its losses are float32's within the rounding of bfloat16, and not equal to them; what is kept is float32."""
    mixed, single = (train(replace(LDFA, precision=precision)) for precision in ("bfloat16", "float32"))
    losses = torch.tensor([mixed.first_losses[:5], single.first_losses[:5]])
    assert 0 < (losses[0] - losses[1]).abs().max() < 0.05
    assert {p.dtype for p in mixed.learner.network.parameters()} == {torch.float32}


def test_a_gpu_without_short_products(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    for precision in ("bfloat16", "tf32"):
        with pytest.raises(UsageError, match=f"Old GPU has no {precision}; expected: float32, float64"):
            prepare(replace(LDFA, precision=precision), "cuda")


@pytest.mark.parametrize(
    ("precision", "short"), [("float32", False), ("float64", False), ("bfloat16", True), ("tf32", True)]
)
def test_a_gpu_multiplies_and_convolves_alike(precision, short, monkeypatch):
    """Whatever ran before; the flags are PyTorch's, and hold without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("highest" if short else "high")
        torch.backends.cudnn.allow_tf32 = not short
        bench.training.learner._set_products(replace(LDFA, precision=precision))
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == short
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_tf32_is_float32_on_the_cpu():
    assert result(train(replace(LDFA, precision="tf32"))) == result(train(LDFA))


def test_a_process_that_trains_takes_subnormal_numbers_for_zero():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        train_alone()
        assert torch.get_num_threads() == 1
        assert (torch.tensor([1e-30]) * 1e-10).item() == 0
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
    assert (torch.tensor([1e-30]) * 1e-10).item() > 0
