"""Low-dimensional feedback alignment, the paper's rule (arXiv:2502.20580, v1 to v3, "RAF").

Error sent down: G P Q. Gradient of Q: P'dW, as in `ldfa-q`. Gradient of P: Oja's subspace rule, as in `ldfa-p`.
"""

from bench.rules.base import Feedback, Response, Signals
from bench.rules.ldfa_p import LowDimensionalFeedbackP


class LowDimensionalFeedback(LowDimensionalFeedbackP):
    """`ldfa`: P follows the principal subspace of the error, Q follows the forward weights seen through P."""

    version = 2

    def fixed(self, feedback: Feedback) -> set[str]:
        return self.fixed_p(feedback["P"])

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        low = signals.op.project(feedback["P"], signals.g)
        gradients = self.p_gradient(signals, feedback["P"], low) | {"Q": signals.op.outer(low, signals.x)}
        return signals.op.transpose(feedback["Q"], low, signals.x.shape), gradients


RULE = LowDimensionalFeedback
