"""Kolen-Pollack, or adaptive feedback alignment (Kolen and Pollack 1994; Akrout et al. 2019, arXiv:1904.05391).

Error sent down: G B. Gradient of B: dW, so that with the same optimiser and the same decay B and W converge.
"""

from bench.rules.fa import FeedbackAlignment


class KolenPollack(FeedbackAlignment):
    """`kp`: the feedback weights learn with the gradient of the forward weights."""

    def fixed(self, feedback):
        return set()

    def backward(self, op, signals, feedback):
        return op.transpose(feedback["B"], signals.g, signals.x.shape), {"B": signals.dW}


RULE = KolenPollack
