"""The golden runs: one for each built-in rule on every built-in network, and some that cover the options."""

from dataclasses import replace
from typing import Any

from bench.config import Config
from bench.models import MODELS
from bench.rules import RULES

BASE = {
    "linear": Config(
        model="linear",
        dataset="linear-teacher:8",
        rule="bp",
        rank="4",
        optimiser="sgd",
        lr=2.5e-3,
        weight_decay=4e-3,
        feedback_rate=0.4,
        batch_size=0,
        epochs=50,
        precision="float64",
    ),
    "mlp": Config(
        model="mlp",
        dataset="digits",
        rule="bp",
        rank="3",
        model_options={"width": 24},
        lr=2e-3,
        weight_decay=1e-3,
        feedback_rate=0.5,
        batch_size=32,
        epochs=2,
        gamma=0.8,
        augment=("flip", "rotate:10"),
        clip=0.003,
        precision="float64",
        seed=11,
    ),
    "cnn": Config(
        model="cnn",
        dataset="digits",
        rule="bp",
        rank="1/2",
        model_options={"width": 2},
        weight_decay=1e-3,
        feedback_rate=0.5,
        batch_size=64,
        augment=("crop:1", "cutout:2"),
        clip=0.003,
        precision="float64",
    ),
    "vit": Config(
        model="vit",
        dataset="digits",
        rule="bp",
        rank="2",
        model_options={"width": 8, "depth": 1, "heads": 2},
        optimiser="adamw",
        weight_decay=0.1,
        batch_size=64,
        clip_gradients=0.01,
        precision="float64",
    ),
    "retina": Config(
        model="retina",
        dataset="digits",
        rule="bp",
        rank="B2=1",
        model_options={"channels": 2, "hidden": 8},
        optimiser="rmsprop",
        weight_decay=1e-4,
        batch_size=64,
        precision="float64",
    ),
}
"""Settings of every rule's run. The clip affects some of the entries. With this seed no rotated pixel in the MLP's run
is close to a tie between two neighbours, which rounding would decide.
"""

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "linear": {"bp-balanced": {"rule": "bp", "rank": None, "model_options": {"start": "balanced"}}},
    "mlp": {
        "ldfa-error": {"rule": "ldfa", "rule_options": {"output": "error"}},
        "ldfa-uniform": {"rule": "ldfa", "rule_options": {"initial": "uniform"}},
        "ldfa-B1": {"rule": "ldfa", "rank": "B1=2"},
        "ldfa-direct-hidden": {"rule": "ldfa-direct", "rule_options": {"source": "hidden"}},
        "ldfa-track-resets": {"rule": "ldfa-track", "rule_options": {"resets": 2}},
        "ldfa-hebb-svd": {"rule": "ldfa-hebb", "rule_options": {"initial": "svd"}},
        "fraction": {"rule": "ldfa", "rank": "1/8"},
        "adamw-cosine": {
            "rule": "ldfa",
            "optimiser": "adamw",
            "schedule": "cosine",
            "warmup": 1,
            "feedback_decay": 0.0,
            "clip_gradients": 0.01,
        },
    },
    "retina": {"bottleneck": {"rule": "bp", "rank": None, "model_options": {"channels": 2, "bottleneck": 1}}},
}
"""More runs, which cover the options."""


def configs(model: str) -> dict[str, Config]:
    """The golden runs of a network, by name."""
    kinds = {rule: RULES.get(rule) for rule in RULES.built_in()}
    kinds = {rule: kind for rule, kind in kinds.items() if kind().serves(MODELS.get(model).regression)}
    rules = {rule: {"rule": rule} | ({} if kind.ranked else {"rank": None}) for rule, kind in kinds.items()}
    return {name: replace(BASE[model], **changes) for name, changes in (rules | VARIANTS.get(model, {})).items()}
