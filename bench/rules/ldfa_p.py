"""Low-dimensional feedback of which only P learns (arXiv:2502.20580).

Error sent down: G P Q. Gradient of P: Oja's subspace rule (Oja 1989, International Journal of Neural Systems 1:61),

    -(I - P P') (S'S / rows) P,   S = signal centred a column, over its largest column standard deviation + 1e-8.

The signal is the layer's error G; at the output layer it is the targets, or the error, as `output` says. Q is fixed.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from bench.operators import Operator
from bench.rules.base import Signals, column_variances
from bench.rules.fa_lowrank import LowRankFeedbackAlignment


def oja(P: Tensor, signal: Tensor, projected: Tensor) -> Tensor:
    """Gradient (out, r) of P under Oja's subspace rule, from the signal (rows, out) and projected = signal P.

    Written as -(S'T - P T'T) / rows with the scores T = S P, where the columns of T sum to zero, so that the signal
    itself can stand for the centred one in S'T.
    """
    scale = column_variances(signal).max().sqrt() + 1e-8
    scores = projected - projected.mean(0)
    scaled = scores / (len(signal) * scale.square())
    return P @ (scores.T @ scaled) - (scaled.T @ signal).T


@dataclass(frozen=True)
class LowDimensionalFeedbackP(LowRankFeedbackAlignment):
    """`ldfa-p`: P follows the principal subspace of the error; Q stays random."""

    reads_targets = True
    own_feedback_rate = True

    output: Literal["targets", "error"] = "targets"
    """What P learns from at the output layer."""

    def backward(self, op, signals, feedback):
        low = op.project(feedback["P"], signals.g)
        gradients = {"P": self.p_gradient(op, signals, feedback["P"], low)}
        return op.transpose(feedback["Q"], low, signals.x.shape), gradients

    def p_gradient(self, op: Operator, signals: Signals, P: Tensor, low: Tensor) -> Tensor:
        """Oja's rule on the targets at the output layer, on the error, which low = G P projects, elsewhere."""
        if signals.targets is not None and self.output == "targets":
            return oja(P, signals.targets, signals.targets @ P)
        return oja(P, op.rows(signals.g), op.rows(low))


RULE = LowDimensionalFeedbackP
