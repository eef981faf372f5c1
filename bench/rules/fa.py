"""Feedback alignment (Lillicrap, Cownden, Tweed and Akerman 2016, Nature Communications 7:13276).

Error sent down: G B, with B random, shaped like W, and fixed.
"""

from torch import Generator, Tensor

from bench.rules.base import Feedback, Response, Rule, Signals, like_weight


class FeedbackAlignment(Rule):
    """`fa`: the error travels through fixed random weights."""

    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        return {"B": like_weight(W, W.shape[0], generator)}

    def fixed(self, feedback: Feedback) -> set[str]:
        return {"B"}

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        return signals.op.transpose(feedback["B"], signals.g, signals.x.shape), {}

    def feedback_matrix(self, W: Tensor, feedback: Feedback) -> Tensor:
        return feedback["B"]


RULE = FeedbackAlignment
