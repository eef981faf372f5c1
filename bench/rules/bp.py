"""Backpropagation (Rumelhart, Hinton and Williams 1986).

Error sent down: G W.
"""

from bench.rules.base import Rule


class Backpropagation(Rule):
    """`bp`: the error travels through the transpose of the forward weights."""

    reads_weights = "yes"

    def start(self, op, W, rank, generator):
        return {}

    def backward(self, op, signals, feedback):
        return op.transpose(signals.W, signals.g, signals.x.shape), {}

    def feedback_matrix(self, W, feedback):
        return W


RULE = Backpropagation
