"""Layers whose backward pass is given by a learning rule.

`Linear`, `Conv2d` and the others are PyTorch's layers with a rule: `Linear(512, 256, rule="ldfa", rank=10)`.
"""

from bench.layers._attention import MultiheadAttention
from bench.layers._feedback import check_clip, check_network, check_weight, feedback_like, group_of, initial_feedback
from bench.layers._kinds import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Linear,
    register_layer,
)
from bench.layers._registry import LAYERS, layer_class
from bench.layers._rule_layer import RuleLayer, tell
from bench.layers.reading import register_reader

__all__ = [
    "LAYERS",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Linear",
    "MultiheadAttention",
    "RuleLayer",
    "check_clip",
    "check_network",
    "check_weight",
    "feedback_like",
    "group_of",
    "initial_feedback",
    "layer_class",
    "register_layer",
    "register_reader",
    "tell",
]
