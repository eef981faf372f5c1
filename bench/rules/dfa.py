"""Direct feedback alignment (Nokland 2016, arXiv:1609.01596).

Error sent down: e B, with e the error at the network's output (N, C) and B (C, in) random and fixed.

A convolution's or a token layer's input gets e B at every position alike, over the number of positions: what a global
average pool above it would send. It is the broadcast of one error vector to all units of Clark, Abbott and Chung (2021,
arXiv:2106.04089); Nokland has a row of B for each channel and position instead.
"""

from bench.rules.base import Feedback, Response, Signals
from bench.rules.fa import FeedbackAlignment


class DirectFeedbackAlignment(FeedbackAlignment):
    """`dfa`: the error at the output reaches each layer directly, through fixed random weights."""

    source = "output"

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        return signals.op.spread(signals.direct @ feedback["B"], signals.x.shape), {}


RULE = DirectFeedbackAlignment
