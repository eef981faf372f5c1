"""Uniform sign-concordant feedback (Moskovitz, Litwin-Kumar and Abbott 2018, arXiv:1812.06488).

Error sent down: G B, B = c sign(W), with c the standard deviation of the initial weights, 1/sqrt(3 fan-in).
"""

from bench.rules.base import Rule


class UniformSign(Rule):
    """`usf`: the feedback has the signs of the forward weights, and one magnitude."""

    reads_weights = "sign"

    def start(self, op, W, rank, generator):
        return {}

    def backward(self, op, signals, feedback):
        return op.transpose(self.feedback_matrix(signals.W, feedback), signals.g, signals.x.shape), {}

    def feedback_matrix(self, W, feedback):
        return W.sign() * (3 * W[0].numel()) ** -0.5


RULE = UniformSign
