"""Adapters in training: from the prompts of jobs, or from labelled examples, to the weight grids made of them now.

In: groups of prompts or of examples. Out: a grid each, with gradients. It knows neither losses nor optimisers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.generator.examples import ExampleOptions, Labelled, practice
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.hidden_states import prompt_ids, read_packs, reading_pack
from prompt2lora.generator.text_encoder import Encoder, pad
from prompt2lora.ground.progress import listening, silent
from prompt2lora.training.recipe import Stage
from prompt2lora.training.tasks import Example, Task

READ, READ_ALL = 192, 512  # tokens of a job's prompts that the base reads in training and in validation


@dataclass(frozen=True)
class Grids:
    """`base` loads the frozen base; it is asked for only if the generator listens to it."""

    generator: Generator
    encoder: Encoder
    base: Callable[[], Frozen]
    device: str
    dtype: torch.dtype

    def of(
        self, groups: Sequence[Sequence[str]], alone: Sequence[bool] = (), *, budget: int = READ
    ) -> Float[Tensor, "batch layers rows cols"]:
        """Weight grids generated from groups of prompts; where `alone`, the shared adapter instead."""
        if alone and all(alone):
            return self.generator.start[None]  # one adapter serves all sequences
        conditions, mask = pad(self._conditions(groups, budget))
        fast = self.dtype == torch.bfloat16 and self.device != "mps"
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=fast):
            grid: Tensor = self.generator(conditions.to(self.device), mask.to(self.device))
        if any(alone):
            shared = torch.tensor(alone, device=self.device)[:, None, None, None]
            grid = torch.where(shared, self.generator.start, grid)
        return grid

    def after_practice(
        self, tasks: Sequence[Task], examples: Sequence[Sequence[Example]], stage: Stage
    ) -> Float[Tensor, "batch layers rows cols"]:
        """The shared adapter after a stage's steps on examples of each task.

        The gradient goes to the shared adapter as if the steps were a constant that is added (first-order MAML).
        """
        start, options = self.generator.start, ExampleOptions(steps=stage.practice, budget=stage.context)
        jobs = [
            Labelled(task.instruction, [(one.input, one.output) for one in some])
            for task, some in zip(tasks, examples, strict=True)
        ]
        made = [start.detach().clone().requires_grad_() for _ in tasks]
        with torch.enable_grad(), listening(silent):
            for _ in practice(self.base(), made, jobs, options):
                pass
        return start + (torch.stack(made).detach() - start.detach())

    def standardise(self, groups: Sequence[Sequence[str]]) -> None:
        """What conditions look like, from the prompts of some jobs, as the shared adapter reads them now."""
        means = [group.mean(0) for at in range(0, len(groups), 16) for group in self._conditions(groups[at : at + 16])]
        self.generator.pooling.standardise(torch.stack(means))

    def _conditions(self, groups: Sequence[Sequence[str]], budget: int = READ) -> list[Float[Tensor, "prompts width"]]:
        """Conditions of several jobs' prompts, of each as many prompts as the budget of tokens holds."""
        if not self.generator.config.states:
            return self._encoded(groups)
        base = self.base()
        packs = [reading_pack(prompt_ids(base.chat, group), budget) for group in groups]
        read = read_packs(base, self.generator.start.detach(), packs)
        texts = [[group[i] for i in pack.used] for group, pack in zip(groups, packs, strict=True)]
        return [torch.cat(parts, 1) for parts in zip(self._encoded(texts), read, strict=True)]

    def _encoded(self, groups: Sequence[Sequence[str]]) -> list[Float[Tensor, "prompts width"]]:
        """What the text encoder makes of groups of prompts, all at once."""
        found = self.encoder.conditions([text for group in groups for text in group], keep=False)
        return list(models.moved(found, self.device).split([len(group) for group in groups]))
