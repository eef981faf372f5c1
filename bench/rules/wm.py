"""Weight mirror (Akrout, Wilson, Humphreys, Lillicrap and Tweed 2019, arXiv:1904.05391).

Error sent down: G B, B shaped like W. Each step has a mirror phase: standard normal noise X passes through the layer,
and B learns, under decay, from its correlation with the output Y = X W'. Gradient of B: B - Y'X / samples, whose mean
is B - W. A convolution mirrors at one position: the noise fills one receptive field.
"""

from bench.errors import UsageError
from bench.rules.base import Feedback, Response, Signals
from bench.rules.fa import FeedbackAlignment


class WeightMirror(FeedbackAlignment):
    """`wm`: the feedback weights learn to mirror the forward weights from noise that passes through them."""

    own_feedback_rate = True
    scale_free = frozenset({"B"})
    draws = True

    samples: int = 128
    """Noise vectors per step."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError(f"samples: {self.samples} is not allowed; expected: 1 or more")

    def fixed(self, feedback: Feedback) -> set[str]:
        return set()

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        W, B = signals.W, feedback["B"]
        noise = W.new_empty(self.samples, W[0].numel()).normal_()
        correlation = (noise @ W.flatten(1).T).T @ noise / self.samples
        return signals.op.transpose(B, signals.g, signals.x.shape), {"B": B - correlation.view_as(B)}


RULE = WeightMirror
