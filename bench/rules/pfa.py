"""Product feedback alignment (Li, Ororbia, Kusmierz et al. 2024).

Error sent down: (G B) R, with B (out, m), m = 10 out, random with B B' = I and fixed. Gradient of R: (G B)'X = B'dW, so
that with the decay of W the product B R converges to W.
"""

from torch import Generator, Tensor

from bench.rules.base import Feedback, Response, Rule, Signals, like_weight, orthonormal, product

EXPANSION = 10


class ProductFeedback(Rule):
    """`pfa`: the error passes through a wider population, whose weights R learn locally."""

    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        m = EXPANSION * W.shape[0]
        wide = W.new_empty(m, 1)
        return {"B": orthonormal(wide, W.shape[0], generator).T.contiguous(), "R": like_weight(W, m, generator)}

    def fixed(self, feedback: Feedback) -> set[str]:
        return {"B"}

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        wide = signals.op.project(feedback["B"], signals.g)
        return signals.op.transpose(feedback["R"], wide, signals.x.shape), {"R": signals.op.outer(wide, signals.x)}

    def feedback_matrix(self, W: Tensor, feedback: Feedback) -> Tensor:
        return product(feedback["B"], feedback["R"])


RULE = ProductFeedback
