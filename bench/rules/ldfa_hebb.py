"""Low-dimensional feedback with synapse-local learning (arXiv:2502.20580, v4).

Error sent down: G P Q. Gradient of P: dW Q'. Gradient of Q: P'dW. Same optimiser and decay as W.
"""

from typing import Literal

from torch import Generator, Tensor

from bench.rules.base import Feedback, Response, Signals, svd_factors
from bench.rules.fa_lowrank import LowRankFeedbackAlignment


class LowDimensionalFeedbackHebb(LowRankFeedbackAlignment):
    """`ldfa-hebb`: P and Q each descend the loss that the network would have with the product P Q in place of W."""

    initial: Literal["orthonormal", "uniform", "svd"] = "orthonormal"  # type: ignore[assignment]
    """Initial P and Q: as in `ldfa`, or the rank-r SVD of W, which is weight transport."""

    @property
    def reads_weights(self) -> Literal["no", "yes"]:  # type: ignore[override]
        return "yes" if self.initial == "svd" else "no"

    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        return svd_factors(W, rank) if self.initial == "svd" else super().init_feedback(W, rank, generator)

    def fixed(self, feedback: Feedback) -> set[str]:
        return set()

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        P, Q = feedback["P"], feedback["Q"]
        low = signals.op.project(P, signals.g)
        gradients = {"P": signals.dW.flatten(1) @ Q.flatten(1).T, "Q": signals.op.outer(low, signals.x)}
        return signals.op.transpose(Q, low, signals.x.shape), gradients


RULE = LowDimensionalFeedbackHebb
