"""What light commands cost: CPU seconds and memory of each, on the committed records and on 10,000 made-up ones.

`make light`, or `python tests/light.py`. Exits with status 1 where a command takes more than twice its limit, the
factor being for busy machines, or more memory than its limit.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.commands.show import table
from bench.config import Config
from bench.data import resolve
from bench.errors import UsageError
from bench.records.store import Store, seal

NOISE = 2
"""How much longer than its limit a command may take."""
MEMORY = 250
"""Megabytes that a command may take, less than torch alone does."""
COMMITTED = {
    "list experiments": 1,
    "data": 1,
    "sweep linear --scale cpu --dry-run": 1,
    "compare ldfa@8 bp --task linear --dataset linear-teacher:8": 3,
    "verify --no-golden": 3,
}
"""Limits in seconds of CPU time, on the records of this repository."""
OF_IMAGES = {"sweep mlp-all-layers --scale cpu --dry-run": 1}
"""Those that need CIFAR-10."""
MANY = {"sweep many --scale quick --dry-run --results empty": 5, "verify --no-golden --results full": 10}
"""Those where an experiment has 10,000 runs."""
RATES = [float(f"{step / 1000:g}") for step in range(1, 11)]
EXPERIMENT = f"{{title: Many, model: mlp, scales: {{quick: {{seeds: 1000, runs: [{{rule: bp, lr: {RATES}}}]}}}}}}"


def make_many(folder: Path) -> None:
    """An experiment of 10,000 runs, and one run of it trained, its record copied for all of them."""
    (folder / "experiments").mkdir()
    (folder / "experiments/many.yaml").write_text(EXPERIMENT)
    (folder / "empty").mkdir()
    cost("run --model mlp --rule bp --scale quick --results one", folder)
    (path,) = Store(folder / "one/quick").paths()
    record = json.loads(path.read_text()) | {"experiment": "many"}
    config = Config(**record["config"] | {"augment": tuple(record["config"]["augment"])})
    store = Store(folder / "full/quick")
    store.path("many", config).parent.mkdir(parents=True)
    for rate in RATES:
        for seed in range(1000):
            other = replace(config, lr=rate, seed=seed)
            copy = record | {"config": vars(other), "digest": other.digest}
            store.path("many", other).write_text(json.dumps(copy | {"seal": seal(copy)}))


def cost(command: str, folder: Path) -> tuple[float, float]:
    """CPU seconds of `bench` and its peak memory in megabytes, run in `folder`."""
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    if (folder / "experiments").is_dir():
        environment["BENCH_EXPERIMENTS"] = "experiments"
    arguments = [sys.executable, "-m", "bench", *command.split()]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(arguments, cwd=folder, env=environment, **silent)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"bench {command}: exit status {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def measure(limits: dict[str, int], folder: Path) -> list[list]:
    rows = []
    for command, limit in limits.items():
        seconds, megabytes = cost(command, folder)
        held = seconds <= NOISE * limit and megabytes <= MEMORY
        rows.append([f"bench {command}", round(seconds, 2), limit, round(megabytes), "yes" if held else "NO"])
    return rows


if __name__ == "__main__":
    cost("verify --no-golden", Path.cwd())  # makes the data, whose checksums are kept from then on
    found = measure(COMMITTED, Path.cwd())
    try:
        resolve("cifar10")
        found += measure(OF_IMAGES, Path.cwd())
    except UsageError as error:
        print(f"not measured: {', '.join(OF_IMAGES)}: {error}")
    with TemporaryDirectory() as many:
        make_many(Path(many))
        cost("verify --no-golden --results one", Path(many))
        found += measure(MANY, Path(many))
    table("light commands", ["command", "CPU (s)", "limit", "memory (MB)", "held"], found)
    sys.exit(any(row[-1] == "NO" for row in found))
