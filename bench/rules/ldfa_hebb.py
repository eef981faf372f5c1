"""Low-dimensional feedback with synapse-local learning (arXiv:2502.20580, v4).

Error sent down: G P Q. Gradient of P: dW Q'. Gradient of Q: P'dW. Same optimiser and decay as W.
"""

from dataclasses import dataclass
from typing import Literal

from bench.rules.base import svd_factors
from bench.rules.fa_lowrank import LowRankFeedbackAlignment


@dataclass(frozen=True)
class LowDimensionalFeedbackHebb(LowRankFeedbackAlignment):
    """`ldfa-hebb`: P and Q each descend the loss that the product P Q would descend in place of W."""

    initial: Literal["orthonormal", "uniform", "svd"] = "orthonormal"
    """Initial P and Q: as in `ldfa`, or the rank-r SVD of W, which is weight transport."""

    def start(self, op, W, rank, generator):
        return svd_factors(W, rank) if self.initial == "svd" else super().start(op, W, rank, generator)

    def fixed(self, feedback):
        return set()

    def backward(self, op, signals, feedback):
        P, Q = feedback["P"], feedback["Q"]
        low = op.project(P, signals.g)
        gradients = {"P": signals.dW.flatten(1) @ Q.flatten(1).T, "Q": op.outer(low, signals.x)}
        return op.transpose(Q, low, signals.x.shape), gradients


RULE = LowDimensionalFeedbackHebb
