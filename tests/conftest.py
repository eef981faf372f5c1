"""What several files of tests use."""

import pytest
from hypothesis import HealthCheck, settings

from bench.records import Store, failed_record

settings.register_profile(
    "bench",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("bench")


@pytest.fixture
def made_up(tmp_path):
    """Writes the record of a run that never was into `tmp_path`: with an accuracy, or diverged where it is None."""

    def write(config, accuracy, scale="cpu", experiment="run", **more):
        store = Store(tmp_path / scale)
        record = failed_record(config, experiment, scale, "cpu", "") | {
            "status": "ok" if accuracy is not None else "diverged",
            "data": {"name": config.dataset, "sha256": {"train": "a"}},
            "rule": {"reads_weights": "no", "reads_targets": True},
            "final": {"accuracy": accuracy},
            "flops_step": 1000,
            "seconds": 60.0 + config.seed,
            "parameters": {"forward": 7, "feedback": 5},
        }
        store.write(record | more, store.path(experiment, config))
        return store.path(experiment, config)

    return write
