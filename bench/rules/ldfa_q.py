"""Low-dimensional feedback in which only Q learns (arXiv:2502.20580).

Error sent down: G P Q. Gradient of Q: P'dW, the outer product of the low-dimensional error G P and the input. P is
fixed.
"""

from bench.rules.base import Feedback, Response, Signals
from bench.rules.fa_lowrank import LowRankFeedbackAlignment


class LowDimensionalFeedbackQ(LowRankFeedbackAlignment):
    """`ldfa-q`: Q follows the forward weights seen through a fixed random P."""

    own_feedback_rate = True

    def fixed(self, feedback: Feedback) -> set[str]:
        return {"P"}

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        low = signals.op.project(feedback["P"], signals.g)
        return signals.op.transpose(feedback["Q"], low, signals.x.shape), {"Q": signals.op.outer(low, signals.x)}


RULE = LowDimensionalFeedbackQ
