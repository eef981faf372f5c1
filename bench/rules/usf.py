"""Uniform sign-concordant feedback (Moskovitz, Litwin-Kumar and Abbott 2018, arXiv:1812.06488).

Error sent down: G B, B = c sign(W), with c the standard deviation of the initial weights, 1/sqrt(3 fan-in).
"""

from torch import Generator, Tensor

from bench.rules.base import Feedback, Response, Rule, Signals


class UniformSign(Rule):
    """`usf`: the feedback has the signs of the forward weights and a single magnitude."""

    reads_weights = "sign"

    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        return {}

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        return signals.op.transpose(self.feedback_matrix(signals.W, feedback), signals.g, signals.x.shape), {}

    def feedback_matrix(self, W: Tensor, feedback: Feedback) -> Tensor:
        return W.sign() * (3 * W[0].numel()) ** -0.5


RULE = UniformSign
