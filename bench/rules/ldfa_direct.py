"""Direct low-dimensional feedback (arXiv:2502.20580).

Error sent down: S P Q, with S the error at the source (N, width), P (width, r), Q (r, in). Gradient of Q: (S P)'H, with
H the layer's input. Gradient of P: Oja's subspace rule on S, as in `ldfa-p`. The source is the network's output or, as
in the authors' runs, its last hidden layer, which gets its error through the output layer's own `ldfa` feedback.

In convolutions and on tokens, S P Q goes to every position alike and H is the mean over positions, as in `dfa`.
"""

from typing import Literal

from bench.rules.base import Feedback, Response, Signals
from bench.rules.ldfa import LowDimensionalFeedback
from bench.rules.ldfa_p import oja


class DirectLowDimensionalFeedback(LowDimensionalFeedback):
    """`ldfa-direct`: r numbers per example reach each layer directly, through factors that learn."""

    version = 2

    source: Literal["output", "hidden"] = "output"
    """Where the error comes from: the network's output, or its last hidden layer."""

    @property
    def told(self) -> Literal["output"] | None:  # type: ignore[override]
        return super().told if self.source == "hidden" else None

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        if signals.direct is None:
            return super().backward(signals, feedback)
        low = signals.direct @ feedback["P"]
        gradients = {"Q": low.T @ signals.op.pool(signals.x)}
        if "P" not in signals.fixed:
            gradients["P"] = oja(feedback["P"], signals.direct, low)
        return signals.op.spread(low @ feedback["Q"], signals.x.shape), gradients


RULE = DirectLowDimensionalFeedback
