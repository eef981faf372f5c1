"""How a rule's errors and feedback compare with backpropagation's at one point in training."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.layers import RuleLayer
from bench.rules import RULES
from bench.rules.base import Feedback, Signals
from bench.training.learner import Learner, step

PROBE = 256
"""Maximum size of the probe batch, the first of the training split, in order and not augmented."""
SEED = 0
"""Seed of the random numbers of a pass, so that dropout has the same masks under every rule."""
VANISHED = 1e-12
"""An error of at most this share of the largest error in the network has no direction."""


class Listener:
    """Replaces the response of a layer and records the signals and the error that it sent down."""

    signals: Signals
    sent: Tensor

    def __init__(self, layer: RuleLayer) -> None:
        self.respond = layer.respond

    def __call__(self, signals: Signals, feedback: Feedback) -> tuple[Tensor, Feedback]:
        self.signals = signals
        self.sent, gradients = self.respond(signals, feedback)
        return self.sent, gradients


@torch.enable_grad()
def observe(learner: Learner, inputs: Tensor, targets: Tensor, *, exact: bool = False) -> dict[str, Listener]:
    """What each layer under the rule receives and sends in a training step; if `exact`, in unclipped backpropagation.

    A copy makes the step, in train mode: the learner and the random numbers that it will draw are unchanged.
    """
    learner = copy.deepcopy(learner)
    learner.network.train()
    heard = {}
    for label, layer in learner.layers.items():
        if exact:
            layer.rule, layer.clip = RULES.get("bp")(), None
        heard[label] = layer.__dict__["respond"] = Listener(layer)
    with torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
        torch.manual_seed(SEED)
        step(learner, torch.optim.SGD(learner.network.parameters(), lr=0.0), inputs, targets)
    for layer in learner.layers.values():
        del layer.__dict__["respond"]  # else signals, autograd graph and layer refer to each other and are never freed
    return heard


@torch.no_grad()
def measure(learner: Learner, inputs: Tensor, targets: Tensor) -> dict[str, dict[str, float | None]]:
    """The measures of each layer under the rule on a batch, to six digits; None where a measure is meaningless.

    error_angle: degrees between the error that the rule sends down, before the layer's clip, and the error that
    backpropagation through the whole network would send there; None if either is at most `VANISHED` times the largest
    error at the output of a layer in its pass. error_norm, bp_norm: Frobenius norms of the two. weight_angle: degrees
    between the tensor that replaces W, such as P Q, and W; None if there is no such tensor. kept_energy: share of the
    energy in the span of P, of the error or, under a direct rule, of the signal; None without P. update_rank: effective
    rank of the weight gradient, with a kernel as a matrix (out, in k^2).

    Empty if a number in a pass is not finite. The learner is unchanged.
    """
    passes = [observe(learner, inputs, targets, exact=exact) for exact in (False, True)]
    layers = [listener for heard in passes for listener in heard.values()]
    if not all(tensor.isfinite().all() for each in layers for tensor in (each.sent, each.signals.dW)):
        return {}
    floors = [VANISHED * max(_norm(each.signals.g) for each in heard.values()) for heard in passes]
    signals = {label: heard.signals for label, heard in passes[0].items()}
    ranks = effective_ranks([each.dW.flatten(1) for each in signals.values()])
    projected = [label for label, layer in learner.layers.items() if "P" in layer.feedback]
    kept = kept_energies([_projection(learner.layers[label], signals[label]) for label in projected])
    energies = dict(zip(projected, kept, strict=True))
    measures = {}
    for (label, layer), rank in zip(learner.layers.items(), ranks, strict=True):
        errors = [heard[label].sent for heard in passes]
        norms = [_norm(error) for error in errors]
        directed = all(norm > floor for norm, floor in zip(norms, floors, strict=True))
        numbers = {
            "error_angle": angle(*errors) if directed else math.nan,
            "error_norm": norms[0],
            "bp_norm": norms[1],
            "weight_angle": _weight_angle(layer, signals[label]),
            "kept_energy": energies.get(label, math.nan),
            "update_rank": rank,
        }
        measures[label] = {k: float(f"{x:.6g}") if math.isfinite(x) else None for k, x in numbers.items()}
    return measures


def _projection(layer: RuleLayer, signals: Signals) -> tuple[Tensor, Tensor]:
    """P, with all groups side by side, and what it projects: the layer's error, or the signal under a direct rule."""
    P, grouped = layer.feedback["P"], layer.operator.groups > 1
    if layer.source is None:
        return torch.block_diag(*P) if grouped else P, layer.operator.rows(signals.g)
    heard = signals.targets if signals.direct is None else signals.direct
    return torch.cat(list(P), 1) if grouped else P, heard


def _weight_angle(layer: RuleLayer, signals: Signals) -> float:
    if layer.source is not None:
        return math.nan
    stands_for_W = layer.feedback_matrix()
    return math.nan if stands_for_W is None else angle(stands_for_W, signals.W)


def angle(a: Tensor, b: Tensor) -> float:
    """Degrees between two tensors of one shape, taken as vectors; nan if one is zero.

    2 atan2(|u - v|, |u + v|) for their unit vectors u and v, which is accurate for small angles (Kahan 2006, How Futile
    are Mindless Assessments of Roundoff in Floating-Point Computation?).
    """
    u, v = (tensor.double() / tensor.double().norm() for tensor in (a, b))
    return math.degrees(2 * math.atan2(_norm(u - v), _norm(u + v)))


def kept_energies(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    """Share of the energy of G (rows, out) in the span of P (out, r), for each pair P, G; nan if G is zero.

    |G U|^2 / |G|^2, where the columns of U are an orthonormal basis of the span: P v / sqrt(l) for each eigenvector v
    of P'P whose eigenvalue l is above rounding.
    """
    doubles = [(P.double(), G.double()) for P, G in pairs]
    spectra = _by_size(torch.linalg.eigh, [P.T @ P for P, _ in doubles])
    kept = []
    for (given, _), (P, G), (values, vectors) in zip(pairs, doubles, spectra, strict=True):
        size = max(P.shape)
        rounding = max((size * torch.finfo(given.dtype).eps) ** 2, size * torch.finfo(P.dtype).eps)
        energies = (G @ (P @ vectors)).square().sum(0) / values
        kept.append(energies.where(values > rounding * values[-1], 0).sum() / G.square().sum())
    return torch.stack(kept).tolist() if kept else []


def effective_ranks(matrices: Sequence[Tensor]) -> list[float]:
    """Exponential of the entropy of the singular values over their sum, for each matrix; nan if it is zero.

    Roy and Vetterli 2007, The effective rank: a measure of effective dimensionality. The squares of the singular values
    are the eigenvalues of the smaller Gram matrix, which in float64 are closer than singular values in float32.
    """
    doubles = [matrix.double() if len(matrix) <= matrix.shape[1] else matrix.double().T for matrix in matrices]
    ranks = []
    for values in _by_size(torch.linalg.eigvalsh, [matrix @ matrix.T for matrix in doubles]):
        singular = values.clamp(min=0).sqrt()
        ranks.append(torch.special.entr(singular / singular.sum()).sum().exp())
    return torch.stack(ranks).tolist()


def _by_size(function: Callable[[Tensor], Any], matrices: Sequence[Tensor]) -> list[Any]:
    """Applies `function` to square matrices, batched by size because the CPU waits for the GPU once per call."""
    found: dict[int, Any] = {}
    for size in {len(matrix) for matrix in matrices}:
        places = [place for place, matrix in enumerate(matrices) if len(matrix) == size]
        together = function(torch.stack([matrices[place] for place in places]))
        apart = zip(*together, strict=True) if isinstance(together, tuple) else together
        found |= zip(places, apart, strict=True)
    return [found[place] for place in range(len(matrices))]


def _norm(tensor: Tensor) -> float:
    return tensor.double().norm().item()
