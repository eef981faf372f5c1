"""What runs take on a GPU that is not here: counts that agree with others, and the plan of the full replication."""

import re
from dataclasses import replace

import numpy as np
import pytest

from bench.cli import main
from bench.commands.show import in_words
from bench.config import Config
from bench.errors import UsageError
from bench.sweeps.experiments import alternative, experiment
from bench.sweeps.pipeline import stages
from bench.sweeps.roofline import BYTES_SHARE, FLOPS_SHARE, GPUS, SHORTEST, Work, _passes, cost, gpu_called
from bench.training.costs import first_batch, flops_of_step
from bench.training.learner import prepare
from bench.training.length import steps
from replication.full import PIPELINE, cost_of, written_estimates

CONFIG = Config(model="mlp", dataset="digits", rule="ldfa", rank="3", model_options={"width": 16}, epochs=2)
H100 = GPUS["h100"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rule": "bp", "rank": None},
        {"model": "cnn", "model_options": {"width": 2}},
        {"model": "vit", "model_options": {"patch": 4, "width": 8, "depth": 1, "heads": 2}},
    ],
    ids=["mlp", "bp", "cnn", "vit"],
)
def test_flops_are_those_of_a_real_step(changes):
    config = replace(CONFIG, **changes)
    data, learner = prepare(config, "cpu")
    assert _passes(config).training.flops.sum() == flops_of_step(config, learner, *first_batch(config, data))


def test_an_operation_takes_the_longest_of_its_flops_its_bytes_and_its_launch():
    gpu = replace(H100, flops={"float32": 2e12, "bfloat16": 4e12}, bandwidth=1e12)
    work = Work(np.array([1e9, 0.0, 0.0]), np.array([1e6, 7e9, 1.0]), 0.0)
    products, moves = 1e9 / (FLOPS_SHARE * 2e12), 7e9 / (BYTES_SHARE * 1e12)
    assert work.seconds(1, gpu, "float32") == pytest.approx(products + moves + SHORTEST)
    assert work.seconds(3, gpu, "float32") == pytest.approx(3 * (products + moves) + SHORTEST)
    assert work.seconds(1, gpu, "bfloat16") == pytest.approx((products + moves) / 2 + SHORTEST)


def test_a_population_launches_as_one_and_processes_take_turns():
    seeds = [replace(CONFIG, seed=seed) for seed in range(8)]
    one, eight, apart = cost(seeds[:1], H100, 1), cost(seeds, H100, 1), cost(seeds, H100, 1, population=1)
    assert eight.launches == one.launches and apart.launches == 8 * one.launches
    assert eight.flops == apart.flops == pytest.approx(8 * one.flops)
    assert apart.seconds == pytest.approx(8 * one.seconds) and eight.seconds < 2 * one.seconds
    assert cost(seeds, H100, 4, population=1) == apart
    assert one.launches > 50 * steps(CONFIG)
    assert cost([], H100, 8).runs == 0


def test_a_gpu_without_a_data_sheet_is_named():
    with pytest.raises(UsageError, match=r"^unknown GPU 'h10' \(did you mean 'h100'\?\); expected: a100, h100, h200$"):
        gpu_called("h10")


@pytest.mark.parametrize("name", ["alignment", "linear"])
def test_an_estimate_needs_neither_a_gpu_nor_data(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    command = ["sweep", name, "--scale", "gpu", "--results", str(tmp_path), "--workers", "8"]
    assert main([*command, "--estimate", "h100"]) == 0
    runs = len({config.digest for config in experiment(name).configs("gpu", alternative(0))})
    assert f"│ {runs} " in capsys.readouterr().out


def test_the_full_replication_takes_two_hours_and_a_half_of_one_h100():
    """The table in the guide has each stage of the pipeline on a GPU, and the numbers of today's count."""
    rows = {stage: tuple(numbers) for stage, *numbers in written_estimates().itertuples(index=False)}
    on_gpu = {stage.name: stage for stage in stages(PIPELINE) if stage.option("--device") == "cuda"}
    assert list(rows) == [*on_gpu, "all"]
    hours, minutes = re.search(r"(\d+) h (\d+) min$", rows["all"][-1]).groups()
    assert 60 * int(hours) + int(minutes) <= 150
    for name in ("tune@retina", "sweep-after@mlp-all-layers"):
        assert rows[name] == tuple(in_words(cost_of(on_gpu[name], set()))), "run `python -m replication estimate`"
