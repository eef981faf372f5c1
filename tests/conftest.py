"""What several files of tests use."""

import math

import pytest
import torch
from forks import FORKS
from hypothesis import HealthCheck, settings

from bench.data import sizes
from bench.models import MODELS, _receptive_fields
from bench.records.store import Store, failed_record
from bench.sweeps.executors import local

settings.register_profile(
    "bench",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("bench")
torch.set_num_threads(1)  # each process of the tests has a core: more threads would wait for each other


@pytest.fixture(autouse=True, scope="session")
def workers():
    """The workers of a sweep are forks; those of commands as they are typed are spawned, and import torch anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "CONTEXT", FORKS)
        yield


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """They are not zero in a test, whatever trained in its process before."""
    torch.set_flush_denormal(False)


@pytest.fixture
def short_measures(monkeypatch):
    """A receptive field is found in one step of many alike."""
    monkeypatch.setattr(_receptive_fields, "STEPS", 1)
    monkeypatch.setattr(_receptive_fields, "PAIRS", _receptive_fields.CHUNK)


def history_of(config, loss, test):
    """A history as long as a run of `config`, every loss the same."""
    epochs = [*range(config.log_every, config.epochs, config.log_every), config.epochs]
    accuracy = {} if MODELS.get(config.model).regression else {"accuracy": 100.0}
    history = [{"epoch": epoch, "loss": loss} | accuracy for epoch in epochs]
    for entry in history[:-1]:
        if config.test_every and entry["epoch"] % config.test_every == 0:
            entry["test"] = test
    if config.measure_every:
        history.insert(0, {"epoch": 0})
        for entry in history:
            if entry["epoch"] in (0, config.epochs) or entry["epoch"] % config.measure_every == 0:
                entry["layers"] = {}
    return history


@pytest.fixture
def made_up(tmp_path):
    """`writer` of records into `tmp_path`."""
    return writer(tmp_path)


def writer(folder):
    """Writes the record of a run that never was into `folder`: with an accuracy, or diverged where it is None.

    `losses` are those of its first steps and of its history.
    """

    def write(config, accuracy, scale="cpu", experiment="run", losses=(2.0, 1.0), **more):
        store = Store(folder / scale)
        first, last = losses
        regression = MODELS.get(config.model).regression
        test = {"loss": 1.0} | ({} if regression else {"accuracy": 10.0 if accuracy is None else accuracy})
        train = sizes(config.dataset).train
        steps = config.epochs * math.ceil(min(train, config.epoch_examples or train) / (config.batch_size or train))
        record = failed_record(config, experiment, scale, "cpu", "") | {
            "status": "ok" if accuracy is not None else "diverged",
            "data": {"name": config.dataset, "sha256": {"train": "a"}},
            "rule": {"reads_weights": "no", "reads_targets": True},
            "notes": [],
            "first_losses": [first] * min(50, steps),
            "history": history_of(config, last, test),
            "final": test if accuracy is not None else {},
            "trained": {},
            "seconds": 60.0 + config.seed,
            "population": 1,
            "parameters": {"forward": 7, "feedback": 5},
            "flops_step": 1000,
            "flops": {"forward": 300, "error_path": 200, "weight_gradient": 300, "feedback_update": 0},
            "flops_layers": {},
            "peak_memory_bytes": 10**9,
        }
        del record["reason"]
        store.write(record | more, store.path(experiment, config))
        return store.path(experiment, config)

    return write
