"""What a network under a rule costs."""

import copy
from itertools import islice

from torch.utils.flop_counter import FlopCounterMode

from bench.config import Config
from bench.data.base import Data
from bench.train import Batches, Learner, optimiser_of, step


def parameters_of(learner: Learner) -> dict[str, int]:
    """Numbers of forward parameters and of feedback parameters."""
    feedback = sum(tensor.numel() for tensor in learner.feedback())
    return {"forward": sum(p.numel() for p in learner.network.parameters()) - feedback, "feedback": feedback}


def flops_of_step(config: Config, learner: Learner, data: Data) -> int:
    """Floating-point operations of the matrix products of one training step, counted on a copy of the network."""
    learner = copy.deepcopy(learner)
    learner.network.train()
    ((inputs, targets),) = islice(Batches(data.train, data, config)(), 1)
    with FlopCounterMode(display=False) as counter:
        step(learner, optimiser_of(config, learner), inputs, targets)
    return counter.get_total_flops()
