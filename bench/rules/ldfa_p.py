"""Low-dimensional feedback in which only P learns (arXiv:2502.20580).

Error sent down: G P Q. Gradient of P: Oja's subspace rule (Oja 1989, International Journal of Neural Systems 1:61),

    -(I - P P') (S'S / rows) P,   S = signal, columns centred, over its largest column standard deviation + 1e-8.

The signal is the layer's error G; at the output layer it is the targets or the error, as `output` says. Q is fixed.

A square P (rank = out) that starts orthonormal is also fixed: there the gradient is zero, and in floating point it is
rounding noise, which Adam would scale up to steps of the full learning rate.
"""

from typing import Literal

import torch
from torch import Tensor

from bench.rules.base import Feedback, Response, Signals, at_least_float32, column_moments
from bench.rules.fa_lowrank import LowRankFeedbackAlignment

ROUNDING = 16
"""Roundings of a signal's mean up to which its spread counts as none."""


def oja(P: Tensor, signal: Tensor, projected: Tensor) -> Tensor:
    """Gradient (out, r) of P under Oja's subspace rule, from the signal (rows, out) and projected = signal P.

    Computed as -(S'T - P T'T) / rows with the scores T = S P. The columns of T sum to zero but for rounding, so the
    signal need not be centred in S'T: its mean times that rounding is taken off. Zero if the signal varies no more than
    rounding of its mean does. The sums are in float32 if the signal is in half precision.
    """
    given = P.dtype
    P, signal, projected = map(at_least_float32, (P, signal, projected))
    mean, variance = column_moments(signal)
    spread = variance.max().sqrt()
    varies = spread > ROUNDING * torch.finfo(signal.dtype).eps * mean.abs().max()
    scores = projected - projected.mean(0)
    scaled = scores * (varies / (len(signal) * (spread + 1e-8).square()))
    from_signal = scaled.T @ signal - scaled.sum(0)[:, None] * mean
    return (P @ (scores.T @ scaled) - from_signal.T).to(given)


class LowDimensionalFeedbackP(LowRankFeedbackAlignment):
    """`ldfa-p`: P follows the principal subspace of the error; Q stays random."""

    version = 2
    own_feedback_rate = True
    scale_free = frozenset({"P"})

    output: Literal["targets", "error"] = "targets"
    """What P learns from at the output layer."""

    @property
    def told(self) -> Literal["output"] | None:  # type: ignore[override]
        return "output" if self.output == "targets" else None

    def fixed(self, feedback: Feedback) -> set[str]:
        return {"Q"} | self.fixed_p(feedback["P"])

    def fixed_p(self, P: Tensor) -> set[str]:
        """P, if it has nothing to learn."""
        rows, rank = P.shape
        return {"P"} if self.initial == "orthonormal" and rows == rank else set()

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        low = signals.op.project(feedback["P"], signals.g)
        return signals.op.transpose(feedback["Q"], low, signals.x.shape), self.p_gradient(signals, feedback["P"], low)

    def p_gradient(self, signals: Signals, P: Tensor, low: Tensor) -> Feedback:
        """Oja's rule, on the targets at the output layer and elsewhere on the error, which low = G P projects."""
        if "P" in signals.fixed:
            return {}
        if signals.targets is not None:
            return {"P": oja(P, signals.targets, signals.targets @ P)}
        return {"P": oja(P, signals.op.rows(signals.g), signals.op.rows(low))}


RULE = LowDimensionalFeedbackP
