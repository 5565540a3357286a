"""The optimiser of a stage, and its learning rate at every step.

In: a generator, a stage of a recipe. Out: an optimiser whose rates are set before every step. It knows no tasks.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from prompt2lora.generator.generator import Generator
from prompt2lora.training.recipe import Stage

SETTLING = 25  # steps until Adam's second moment, which remembers about 50, is of use


def optimiser_of(generator: Generator, stage: Stage, device: str) -> torch.optim.Optimizer:
    """A new optimiser for a stage: the shared adapter has a rate of its own, or (0) is held still."""
    rest = [p for name, p in generator.named_parameters() if name != "start"]
    generator.start.requires_grad_(stage.shared > 0)
    groups: list[dict[str, Any]] = [
        {"params": [generator.start], "multiple": stage.shared, "weight_decay": 0.0},
        {"params": [p for p in rest if p.ndim > 1], "multiple": 1.0, "weight_decay": stage.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "multiple": 1.0, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.98), fused=device != "mps")


def set_rate(optimiser: torch.optim.Optimizer, stage: Stage, step: int, *, anew: int = SETTLING) -> float:
    """Set the learning rate of a step inside its stage; returns it. It is lower in the first steps after the optimiser
    began `anew` without its moments, which at first make every step as large as its sign."""
    rate = stage.learning_rate * _schedule(step, stage) * min(1.0, (anew + 1) / SETTLING)
    for group in optimiser.param_groups:
        group["lr"] = rate * group["multiple"]
    return rate


def _schedule(step: int, stage: Stage) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(progress * math.pi))
