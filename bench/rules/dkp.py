"""Direct Kolen-Pollack (Webster, Choi and Ahn 2020, "Learning the connections in direct feedback alignment").

Error sent down: e B, with e the error at the network's output (N, C) and B (C, in). Gradient of B: e'H, with H the
layer's input, so that at the output layer, with the same optimiser and decay, B and W converge as in `kp`.

In convolutions and on tokens, e B goes to every position alike and H is the mean over positions, as in `dfa`.
"""

from bench.rules.base import Feedback, Response, Signals
from bench.rules.dfa import DirectFeedbackAlignment


class DirectKolenPollack(DirectFeedbackAlignment):
    """`dkp`: the error at the output reaches each layer directly, through weights that learn from it and the layer."""

    def fixed(self, feedback: Feedback) -> set[str]:
        return set()

    def backward(self, signals: Signals, feedback: Feedback) -> Response:
        sent, _ = super().backward(signals, feedback)
        return sent, {"B": signals.direct.T @ signals.op.pool(signals.x)}


RULE = DirectKolenPollack
