"""Full fine-tuning: all weights of the base's language model learn the examples of one task.

In: the layout that names the base, a task, examples. Out: a base of its own, trained and frozen again; nobody else's
changes. It is what adapters are held against: as many steps as a LoRA on all examples takes, and several times its
memory (weights, gradients and Adam's two moments in float32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prompt2lora.adapter.hooks import frozen
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.frozen import Frozen
from prompt2lora.training.tasks import Example, Task
from prompt2lora.training.tuning import TuningOptions, steps


@dataclass(frozen=True)
class WholeOptions(TuningOptions):
    """As for a LoRA, at a fortieth of its rate."""

    steps: int = 64
    learning_rate: float = 5e-5


def fit_whole(layout: LoraLayout, task: Task, examples: Sequence[Example], options: WholeOptions) -> Frozen:
    """A base that was trained on the examples."""
    base = Frozen.load(layout, dtype=torch.float32, training=True)
    parts = base.model.get_decoder(), base.model.get_output_embeddings()
    weights = list(dict.fromkeys(weight for part in parts for weight in part.parameters()))  # tied ones once
    for weight in weights:
        weight.requires_grad_()
    for _ in steps(base, None, task, examples, options, weights):
        pass
    for weight in weights:
        weight.grad = None
    frozen(base.model)
    return base
