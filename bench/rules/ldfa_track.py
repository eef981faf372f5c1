"""Low-dimensional feedback that tracks the forward weights (arXiv:2502.20580, v4, the "normative" rule).

Error sent down: G P Q. With D = P Q - W, gradient of P: D Q', gradient of Q: P'D. P and Q start at the rank-r SVD of W,
U sqrt(S) and sqrt(S) V', and may be reset to it during training. All of this reads W: it is weight transport.
"""

from torch import Generator, Tensor

from bench.errors import UsageError
from bench.rules.base import Feedback, Response, Rule, Signals, product, svd_factors


class LowDimensionalFeedbackTrack(Rule):
    """`ldfa-track`: P and Q descend half the squared distance between P Q and the forward weights."""

    reads_weights = "yes"
    ranked = True
    own_feedback_rate = True
    scale_free = frozenset({"P", "Q"})

    resets: int = 0
    """How many times per epoch P and Q are reset to the SVD of W; 2 in the authors' runs."""

    def __post_init__(self) -> None:
        if self.resets < 0:
            raise UsageError(f"resets: {self.resets} is not allowed; expected: 0 or more")

    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        return svd_factors(W, rank)

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        P, Q = feedback["P"], feedback["Q"]
        difference = P @ Q.flatten(1) - signals.W.flatten(1)
        gradients = {"P": difference @ Q.flatten(1).T, "Q": (P.T @ difference).view_as(Q)}
        return signals.op.transpose(Q, signals.op.project(P, signals.g), signals.x.shape), gradients

    def feedback_matrix(self, W: Tensor, feedback: Feedback) -> Tensor:
        return product(feedback["P"], feedback["Q"])

    def reset(self, W: Tensor, feedback: Feedback) -> None:
        for name, tensor in svd_factors(W, len(feedback["Q"])).items():
            feedback[name].copy_(tensor)


RULE = LowDimensionalFeedbackTrack
