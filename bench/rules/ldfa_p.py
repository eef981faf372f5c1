"""Low-dimensional feedback of which only P learns (arXiv:2502.20580).

Error sent down: G P Q. Gradient of P: Oja's subspace rule (Oja 1989, International Journal of Neural Systems 1:61),

    -(I - P P') (S'S / rows) P,   S = signal centred a column, over its largest column standard deviation + 1e-8.

The signal is the layer's error G; at the output layer it is the targets, or the error, as `output` says. Q is fixed.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from bench.operators import Operator
from bench.rules.base import Feedback, Signals
from bench.rules.fa_lowrank import LowRankFeedbackAlignment


def oja(P: Tensor, signal: Tensor) -> Tensor:
    """Gradient (out, r) of P under Oja's subspace rule, as residual' scores; signal (rows, out)."""
    centred = signal - signal.mean(0)
    scale = centred.square().mean(0).max().sqrt() + 1e-8
    scores = centred @ P
    residual = centred - scores @ P.T
    return residual.T @ (scores / (-len(signal) * scale.square()))


@dataclass(frozen=True)
class LowDimensionalFeedbackP(LowRankFeedbackAlignment):
    """`ldfa-p`: P follows the principal subspace of the error; Q stays random."""

    reads_targets = True
    own_feedback_rate = True

    output: Literal["targets", "error"] = "targets"
    """What P learns from at the output layer."""

    def backward(self, op, signals, feedback):
        low = op.project(feedback["P"], signals.g)
        sent = op.transpose(feedback["Q"], low, signals.x.shape)
        return sent, {"P": self.p_gradient(op, signals, feedback)}

    def p_gradient(self, op: Operator, signals: Signals, feedback: Feedback) -> Tensor:
        """Oja's rule on the targets at the output layer, on the error elsewhere."""
        from_targets = signals.targets is not None and self.output == "targets"
        return oja(feedback["P"], signals.targets if from_targets else op.rows(signals.g))


RULE = LowDimensionalFeedbackP
