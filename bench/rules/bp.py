"""Backpropagation (Rumelhart, Hinton and Williams 1986).

Error sent down: G W.
"""

from torch import Generator, Tensor

from bench.rules.base import Feedback, Response, Rule, Signals


class Backpropagation(Rule):
    """`bp`: the error travels through the transpose of the forward weights."""

    reads_weights = "yes"

    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        return {}

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        return signals.op.transpose(signals.W, signals.g, signals.x.shape), {}

    def feedback_matrix(self, W: Tensor, feedback: Feedback) -> Tensor:
        return W


RULE = Backpropagation
