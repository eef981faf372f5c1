"""Low-dimensional feedback that tracks the forward weights (arXiv:2502.20580, v4, the "normative" rule).

Error sent down: G P Q. With D = P Q - W, gradient of P: D Q', gradient of Q: P'D. P and Q start at the rank-r SVD of W,
U sqrt(S) and sqrt(S) V'. Both read W: this is weight transport.
"""

import torch

from bench.rules.base import Rule


class LowDimensionalFeedbackTrack(Rule):
    """`ldfa-track`: P and Q descend half the squared distance between P Q and the forward weights."""

    reads_weights = "yes"
    ranked = True
    own_feedback_rate = True

    def start(self, op, W, rank, generator):
        U, S, Vh = torch.linalg.svd(W.flatten(1), full_matrices=False)
        root = S[:rank].sqrt()
        Q = root[:, None] * Vh[:rank]
        return {"P": U[:, :rank] * root, "Q": Q.view(rank, *W.shape[1:])}

    def backward(self, op, signals, feedback):
        P, Q = feedback["P"], feedback["Q"]
        difference = P @ Q.flatten(1) - signals.W.flatten(1)
        gradients = {"P": difference @ Q.flatten(1).T, "Q": (P.T @ difference).view_as(Q)}
        return op.transpose(Q, op.project(P, signals.g), signals.x.shape), gradients


RULE = LowDimensionalFeedbackTrack
