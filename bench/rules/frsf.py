"""Fixed random-magnitude sign-concordant feedback (Moskovitz, Litwin-Kumar and Abbott 2018, arXiv:1812.06488).

Error sent down: G B, B = M sign(W) elementwise, with fixed magnitudes M = |Kaiming uniform|.
"""

from torch import Generator, Tensor

from bench.rules.base import Feedback, Response, Rule, Signals, like_weight


class FixedMagnitudeSign(Rule):
    """`frsf`: the feedback has the signs of the forward weights and fixed random magnitudes."""

    reads_weights = "sign"

    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        return {"M": like_weight(W, W.shape[0], generator).abs()}

    def fixed(self, feedback: Feedback) -> set[str]:
        return {"M"}

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        return signals.op.transpose(self.feedback_matrix(signals.W, feedback), signals.g, signals.x.shape), {}

    def feedback_matrix(self, W: Tensor, feedback: Feedback) -> Tensor:
        return W.sign() * feedback["M"]


RULE = FixedMagnitudeSign
