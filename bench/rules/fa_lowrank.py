"""Feedback alignment through fixed random factors of rank r (arXiv:2502.20580).

Error sent down: G P Q, with P (out, r) and Q (r, in) random and fixed.
"""

from typing import Literal

from torch import Generator, Tensor

from bench.rules.base import Feedback, Response, Rule, Signals, like_weight, orthonormal, product


class LowRankFeedbackAlignment(Rule):
    """`fa-lowrank`: r numbers per example travel down, through fixed random factors P and Q."""

    ranked = True

    initial: Literal["orthonormal", "uniform"] = "orthonormal"
    """Initial P: orthonormal columns, or the authors' entries U(+-1/sqrt(r))."""

    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        P = orthonormal(W, rank, generator)
        if self.initial == "uniform":
            P.uniform_(-(rank**-0.5), rank**-0.5, generator=generator)
        return {"P": P, "Q": like_weight(W, rank, generator)}

    def fixed(self, feedback: Feedback) -> set[str]:
        return {"P", "Q"}

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        low = signals.op.project(feedback["P"], signals.g)
        return signals.op.transpose(feedback["Q"], low, signals.x.shape), {}

    def feedback_matrix(self, W: Tensor, feedback: Feedback) -> Tensor:
        return product(feedback["P"], feedback["Q"])


RULE = LowRankFeedbackAlignment
