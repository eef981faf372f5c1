"""A GPU that is not there: code that asks for `cuda` runs on PyTorch's `meta` device, and its faults are found.

Operations compute shapes alone; where a number is needed, a float is 1, a bool is True and an integer is 0. It
sees devices, generators, copies and waits. It does not see kernels, autocast, memory or numbers.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import Mock, patch

import torch
from torch import Generator, Tensor
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from bench.training import graphs
from bench.training.batches import Batches

GPU, META = torch.device("cuda:0"), torch.device("meta")
ROOT = Path(__file__).parents[1]
OWN = (f"{ROOT}/bench/", f"{ROOT}/tests/")
WAITS = {
    "_linalg_check_errors",
    "_linalg_eigh",
    "_linalg_svd",
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "linalg_lstsq",
    "masked_select",
    "nonzero",
    "unique_dim",
}
"""Operations for which the CPU waits until the GPU has come to them: a number, a status or a size comes back."""
MASKED = {"index", "index_put_"}
"""These wait where an index is a mask, unless there is but one number to put."""
COPIES = {"_to_copy", "copy_"}
true_device = torch.Tensor.device.__get__


@dataclass(frozen=True)
class Finding:
    """One thing that a GPU would mind, and the line of this repository that did it."""

    kind: Literal["two devices", "generator", "wait", "copy to the GPU", "CPU tensor"]
    operation: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.kind} ({self.operation})"


class StandIn(TorchDispatchMode):
    """Runs what is on `cuda` on `meta`, and keeps what it finds in `findings`, each once.

    Operations on tensors of two devices, and with a generator of another device, are found anywhere; waits, copies to
    the GPU and tensors made on the CPU only where `in_step`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.findings: dict[Finding, None] = {}
        self.in_step = False
        self.computing = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to skip the compiler, PyTorch would import it first."""
        return False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._can_decompose():  # in inference mode PyTorch leaves this to the mode
            with self:
                return function.decompose(*args, **(kwargs or {}))
        self.computing = True
        try:
            return self._run(function, *tree_map(_on_meta, (args, kwargs or {})))
        finally:
            self.computing = False

    def device(self, tensor: Tensor) -> torch.device:
        """What `tensor.device` says: `cuda`, except to PyTorch's own shape computations."""
        device = true_device(tensor)
        return GPU if device == META and not self.computing else device

    def _run(self, function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        name = function.overloadpacket.__name__
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        gpu = [tensor for tensor in tensors if tensor.is_meta]
        if name in COPIES:
            return self._copied(function, name, args, kwargs)
        if not gpu and kwargs.get("device") != META:
            given = function(*args, **kwargs)
            if self.in_step and any(isinstance(leaf, Tensor) for leaf in tree_leaves(given)):
                self._find("CPU tensor", name)
            return given
        if any(isinstance(leaf, Generator) and leaf.device.type == "cpu" for leaf in leaves):
            self._find("generator", name)
            args, kwargs = tree_map(lambda leaf: None if isinstance(leaf, Generator) else leaf, (args, kwargs))
        if any(not tensor.is_meta and tensor.ndim for tensor in tensors):
            self._find("two devices", name)
        waits = name in WAITS or (name in MASKED and _by_mask(*args))
        if self.in_step and waits:
            self._find("wait", name)
        if name.startswith("_fused_"):
            return None
        args, kwargs = tree_map(lambda leaf: leaf.to(META) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        try:
            if not waits:
                return function(*args, **kwargs)
        except NotImplementedError:  # no implementation on META: it runs on made-up values below
            pass
        given = function(*tree_map(_made_up, args), **tree_map(_made_up, kwargs))
        return tree_map(lambda leaf: leaf.to(META) if isinstance(leaf, Tensor) else leaf, given)

    def _copied(self, function: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        source = args[1] if name == "copy_" else args[0]
        if not isinstance(source, Tensor):  # a number, which vmap gives the type of the tensors beside it
            return function(*args, **kwargs)
        target = args[0].is_meta if name == "copy_" else kwargs.get("device", true_device(source)) == META
        if source.is_meta and not target:
            if self.in_step:
                self._find("wait", name)
            args = tree_map(_made_up, args)
        elif target and not source.is_meta and self.in_step:
            self._find("copy to the GPU", name)
        elif not target and not source.is_meta and self.in_step:
            self._find("CPU tensor", name)
        return function(*args, **kwargs)

    def _find(self, kind: Any, operation: str) -> None:
        frame = sys._getframe(1)
        while not frame.f_code.co_filename.startswith(OWN) or frame.f_code.co_filename == __file__:
            if kind == "CPU tensor" and frame.f_globals["__name__"].startswith("torch.optim."):
                return  # PyTorch counts the steps of an optimiser on the CPU
            frame = frame.f_back
        path = Path(frame.f_code.co_filename).relative_to(ROOT)
        self.findings[Finding(kind, operation, f"{path}:{frame.f_lineno}")] = None


def _on_meta(leaf: Any) -> Any:
    return META if isinstance(leaf, torch.device) and leaf.type == "cuda" else leaf


def _by_mask(tensor: Tensor, indices: list[Tensor | None], value: Tensor | None = None, *_: Any) -> bool:
    masked = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
    return masked and (value is None or value.ndim > 0)


def _made_up(leaf: Any) -> Any:
    """A tensor of the GPU with numbers, on the CPU."""
    if isinstance(leaf, torch.device):
        return torch.device("cpu") if leaf == META else leaf
    if not isinstance(leaf, Tensor) or not leaf.is_meta:
        return leaf
    whole = not leaf.is_floating_point() and leaf.dtype != torch.bool
    return torch.full(leaf.shape, 0 if whole else 1, dtype=leaf.dtype)


class _Random:
    """Stands in for the generator of the GPU."""

    def manual_seed(self, seed: int) -> None:
        pass


@contextmanager
def gpu_that_is_not_there() -> Iterator[StandIn]:
    """PyTorch believes that it has a GPU. From the second batch of an epoch of training on, all is `in_step`.

    The second step is recorded as a CUDA graph, and computed once while it is.
    """
    stand_in = StandIn()

    def draws(batches: Batches, *generators: Generator, draws=Batches.draws) -> Iterator[tuple[Tensor, ...]]:
        made = draws(batches, *generators)
        yield next(made)
        stand_in.in_step = True
        yield from made
        stand_in.in_step = False

    def tensor(data: Any, *, tensor=torch.tensor, device: Any = None, **options: Any) -> Tensor:
        """PyTorch makes it on the CPU too, and copies it without a word to the mode."""
        made = tensor(data, **options)
        return made if device is None else made.to(device)

    says = {
        "CUDAGraph": Mock(),
        "Stream": Mock(),
        "_lazy_init": None,
        "current_device": 0,
        "current_stream": Mock(),
        "get_device_name": "stand-in",
        "graph": nullcontext(),
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "is_available": True,
        "is_bf16_supported": True,
        "reset_peak_memory_stats": None,
        "set_rng_state": None,
        "stream": nullcontext(),
    }
    torch._C._ensureCUDADeviceGuardSet()
    with ExitStack() as stack:
        for name, answer in says.items():
            stack.enter_context(patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer))
        stack.enter_context(patch.object(graphs, "WARM_UP", 1))
        stack.enter_context(patch.object(torch.cuda, "default_generators", (_Random(),)))
        stack.enter_context(patch.object(_foreach_utils, "_get_foreach_kernels_supported_devices", lambda: ["meta"]))
        stack.enter_context(patch.object(torch, "tensor", tensor))
        stack.enter_context(patch.object(Batches, "draws", draws))
        stack.enter_context(patch.object(Tensor, "device", property(stand_in.device)))
        stack.enter_context(patch.object(Tensor, "is_cuda", property(lambda tensor: true_device(tensor) == META)))
        stack.enter_context(stand_in)
        yield stand_in
