"""Kolen-Pollack, or adaptive feedback alignment (Kolen and Pollack 1994; Akrout et al. 2019, arXiv:1904.05391).

Error sent down: G B. Gradient of B: dW, so that B and W converge with the same optimiser and decay.
"""

from bench.rules.base import Feedback, Response, Signals
from bench.rules.fa import FeedbackAlignment


class KolenPollack(FeedbackAlignment):
    """`kp`: the feedback weights learn with the gradient of the forward weights."""

    def fixed(self, feedback: Feedback) -> set[str]:
        return set()

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        return signals.op.transpose(feedback["B"], signals.g, signals.x.shape), {"B": signals.dW}


RULE = KolenPollack
