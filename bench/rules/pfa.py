"""Product feedback alignment (Li, Ororbia, Kusmierz et al. 2024).

Error sent down: (G B) R, with B (out, m), m = 10 out, random with B B' = I and fixed. Gradient of R: (G B)'X = B'dW, so
that with the decay of W the product B R comes to W.
"""

from bench.rules.base import Rule, like_weight, orthonormal, product

EXPANSION = 10


class ProductFeedback(Rule):
    """`pfa`: the error passes through a wider population, whose weights R learn locally."""

    def start(self, op, W, rank, generator):
        m = EXPANSION * W.shape[0]
        wide = W.new_empty(m, 1)
        return {"B": orthonormal(wide, W.shape[0], generator).T.contiguous(), "R": like_weight(W, m, generator)}

    def fixed(self, feedback):
        return {"B"}

    def backward(self, op, signals, feedback):
        wide = op.project(feedback["B"], signals.g)
        return op.transpose(feedback["R"], wide, signals.x.shape), {"R": op.outer(wide, signals.x)}

    def feedback_matrix(self, W, feedback):
        return product(feedback["B"], feedback["R"])


RULE = ProductFeedback
