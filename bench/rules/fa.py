"""Feedback alignment (Lillicrap, Cownden, Tweed and Akerman 2016, Nature Communications 7:13276).

Error sent down: G B, with B random, shaped like W, fixed.
"""

from bench.rules.base import Rule, like_weight


class FeedbackAlignment(Rule):
    """`fa`: the error travels through fixed random weights."""

    def start(self, op, W, rank, generator):
        return {"B": like_weight(W, W.shape[0], generator)}

    def fixed(self, feedback):
        return {"B"}

    def backward(self, op, signals, feedback):
        return op.transpose(feedback["B"], signals.g, signals.x.shape), {}

    def feedback_matrix(self, W, feedback):
        return feedback["B"]


RULE = FeedbackAlignment
