"""Direct random target projection (Frenkel, Lefebvre and Bol 2021, arXiv:1909.01311).

Error sent down: t B, with B (C, in) random and fixed, and t = -(one-hot labels) / N: the part of the error at the
network's output, (softmax - one-hot labels) / N, that is known before the output is. For classification only.

In convolutions and on tokens, t B goes to every position alike, as in `dfa`.
"""

from bench.rules.base import Feedback, Response, Signals
from bench.rules.fa import FeedbackAlignment


class DirectRandomTargetProjection(FeedbackAlignment):
    """`drtp`: the labels, not the error, reach each layer directly, through fixed random weights."""

    told = "all"
    scale_free = frozenset({"error"})

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        t = -signals.targets / len(signals.targets)
        return signals.op.spread(t @ feedback["B"], signals.x.shape), {}


RULE = DirectRandomTargetProjection
