"""Direct feedback alignment (Nokland 2016, arXiv:1609.01596).

Error sent down: e B, with e the error at the network's output (N, C) and B (C, in) random and fixed.

The input of a convolution or a token layer gets e B divided by the number of positions, the same at every position:
what a global average pool above it would send. One error vector is thus broadcast to all units, as in Clark, Abbott and
Chung (2021, arXiv:2106.04089); Nokland has a row of B for each channel and position instead.
"""

from bench.rules.base import Feedback, Response, Signals
from bench.rules.fa import FeedbackAlignment


class DirectFeedbackAlignment(FeedbackAlignment):
    """`dfa`: the error at the output reaches each layer directly, through fixed random weights."""

    source = "output"

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        return signals.op.spread(signals.direct @ feedback["B"], signals.x.shape), {}


RULE = DirectFeedbackAlignment
