"""Batchwise random-magnitude sign-concordant feedback (Liao, Leibo and Poggio 2016, arXiv:1510.05067).

Error sent down: G B, B = M sign(W) elementwise, with magnitudes M = |Kaiming uniform| redrawn for each batch.
"""

import torch
from torch import Generator, Tensor

from bench.rules.base import Feedback, Response, Rule, Signals


class BatchMagnitudeSign(Rule):
    """`brsf`: the feedback has the signs of the forward weights and magnitudes redrawn for each batch.

    The magnitudes come from PyTorch's default generator of the device, which the training loop seeds each epoch.
    """

    reads_weights = "sign"
    draws = True

    def init_feedback(self, W: Tensor, rank: int, generator: Generator) -> Feedback:
        return {}

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        magnitude = torch.rand_like(signals.W) * signals.W[0].numel() ** -0.5
        return signals.op.transpose(signals.W.sign() * magnitude, signals.g, signals.x.shape), {}


RULE = BatchMagnitudeSign
