"""The machine, in words and as a file name."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bench.training.process import cores, processor


def describe() -> dict[str, Any]:
    """Processor, cores, threads, versions, GPU and, at this moment, clocks in MHz and processes running or waiting."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "cpu_mhz": _cpu_clock(),
        "gpu": gpu,
        "gpu_mhz": _gpu_clocks() if gpu else None,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def slug(machine: dict[str, Any]) -> str:
    """A file name: processor, cores, GPU."""
    words = " ".join(filter(None, [machine["cpu"], f"{machine['cores']} cores", machine["gpu"]]))
    words = re.sub(r"\((r|tm)\)", "", words.lower())
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def _cpu_clock() -> float | None:
    path = Path("/proc/cpuinfo")
    clocks = re.findall(r"^cpu MHz\s*: ([\d.]+)", path.read_text(), re.MULTILINE) if path.exists() else []
    return max(map(float, clocks), default=None)


def _gpu_clocks() -> dict[str, float] | None:
    command = ["nvidia-smi", "--query-gpu=clocks.sm,clocks.mem", "--format=csv,noheader,nounits", "--id=0"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(",")
        return dict(zip(("cores", "memory"), map(float, found), strict=True))
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
