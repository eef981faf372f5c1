"""CUDA graphs: all kernels of a training step, launched at once.

The host takes longer to launch a kernel than the GPU to run it if the network is small, so a GPU that is told one
kernel at a time mostly waits. A graph records the kernels of a step once and repeats them.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3
"""Calls before the first recording, in which libraries prepare and optimisers make their state."""


@contextmanager
def own_stream(device: str) -> Iterator[None]:
    """Work on a GPU goes to a stream of its own, since the default stream cannot be recorded."""
    if not device.startswith("cuda"):
        yield
        return
    stream, outside = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(outside)
    with torch.cuda.stream(stream):
        yield
    outside.wait_stream(stream)


class Graph:
    """Repeats a function of tensors on a GPU that changes other tensors in place, under `own_stream`."""

    def __init__(self) -> None:
        self.calls = 0
        self.recorded: torch.cuda.CUDAGraph | None = None
        self.arguments: list[Tensor] = []
        self.result: Any

    def forget(self) -> None:
        """The next call records the function again."""
        self.recorded = None

    def run(self, function: Callable[..., Any], *arguments: Tensor) -> Any:
        """Calls a function, always the same one.

        The first calls run as they are. Then it is recorded, and repeated with the arguments of each call: numbers that
        are not tensors, such as a learning rate, stay as they were until `forget`. Arguments of other shapes than the
        recorded ones run as they are too. A recorded call returns the same tensors each time, which the next call
        overwrites.
        """
        self.calls += 1
        if self.calls <= WARM_UP:
            return function(*arguments)
        graph = self.recorded or self._record(function, arguments)
        if any(held.shape != given.shape for held, given in zip(self.arguments, arguments, strict=True)):
            return function(*arguments)
        for held, given in zip(self.arguments, arguments, strict=True):
            held.copy_(given)
        graph.replay()
        return self.result

    def _record(self, function: Callable[..., Any], arguments: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        self.arguments = [argument.clone() for argument in arguments]
        graph = torch.cuda.CUDAGraph()
        with _no_collection(), torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            self.result = function(*self.arguments)
        self.recorded = graph
        return graph


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python collects no garbage: a graph that is freed while another is recorded ends the recording."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
