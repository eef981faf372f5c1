"""Low-dimensional feedback alignment, the paper's rule (arXiv:2502.20580, v1 to v3, "RAF").

Error sent down: G P Q. Gradient of Q: P'dW, as in `ldfa-q`. Gradient of P: Oja's subspace rule, as in `ldfa-p`.
"""

from bench.rules.ldfa_p import LowDimensionalFeedbackP


class LowDimensionalFeedback(LowDimensionalFeedbackP):
    """`ldfa`: P follows the principal subspace of the error, Q follows the forward weights seen through P."""

    version = 2

    def fixed(self, feedback):
        return self.fixed_p(feedback["P"])

    def backward(self, op, signals, feedback):
        low = op.project(feedback["P"], signals.g)
        gradients = self.p_gradient(op, signals, feedback["P"], low) | {"Q": op.outer(low, signals.x)}
        return op.transpose(feedback["Q"], low, signals.x.shape), gradients


RULE = LowDimensionalFeedback
