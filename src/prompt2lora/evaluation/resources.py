"""What the arms of a benchmark draw on: a base, generators, teachers, tasks; and the prompts and examples of a task.

In: loaded parts, and what was found out before. Out: prompts, labelled examples, pipelines, the nearest teacher. What
is drawn depends on the task and the seed alone, and never on a test example. It knows no arm and judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base.frozen import Frozen
from prompt2lora.errors import UsageError
from prompt2lora.evaluation.score_cache import KeptScores, ScoreCache
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.training.tasks import Example, Task
from prompt2lora.training.teachers import Teachers
from prompt2lora.training.tuning import random_order

_WORDS_PER_RANDOM_TEXT = 16
_PROMPTS_TO_RECOGNISE = 16  # of a teacher's task


@dataclass
class Resources:
    """A rival that is not there (None) is refused by name when its arm is asked for. `kept` is what was scored before;
    by default nothing, and what is new outlives no process."""

    base: Frozen
    encoder: Encoder
    generator: Generator
    tasks: Sequence[Task]
    prompts_per_task: int = 16
    multi_task: Adapter | None = None
    reference: Generator | None = None
    teachers: Teachers | None = None
    teacher_tasks: Sequence[Task] = ()
    kept: KeptScores = field(default_factory=lambda: KeptScores(ScoreCache(), ""))

    def prompts(self, task: Task, seed: int, count: int | None = None) -> list[str]:
        """The prompts that a user would give: inputs of the training part, with the instruction."""
        return [task.prompt(text) for text in self.inputs(task, seed, count)]

    def inputs(self, task: Task, seed: int, count: int | None = None) -> list[str]:
        """The same without the instruction."""
        known = sorted({example.input for example in task.train})
        return Random(f"{seed} {task.name}").sample(known, min(count or self.prompts_per_task, len(known)))

    def examples(self, task: Task, seed: int, count: int | None = None) -> tuple[Example, ...]:
        """Examples of the training part, in an order drawn by the seed."""
        return tuple(random_order(task.train, f"{seed} {task.name} labelled")[:count])

    def other(self, task: Task, seed: int) -> Task:
        """The task whose prompts are the wrong ones: the next in a fixed shuffle, never the task itself."""
        order = sorted(self.tasks, key=lambda other: Random(f"{seed} {other.name}").random())
        return order[(order.index(task) + 1) % len(order)]

    def words(self, seed: int) -> list[str]:
        """Prompts of random words, which occur in the tasks' inputs but say nothing together."""
        random = Random(f"{seed} random text")
        known = sorted({word for task in self.tasks for example in task.train for word in example.input.split()})
        return [" ".join(random.choices(known, k=_WORDS_PER_RANDOM_TEXT)) for _ in range(self.prompts_per_task)]

    def pipeline(self, generator: Generator) -> Pipeline:
        return Pipeline(generator, self.encoder, self.base)

    @cached_property
    def training(self) -> Frozen:
        """The base as what an arm trains is trained: in the dtype of the answers."""
        return Frozen.load(self.base.layout, dtype=self.base.model.dtype, training=True)

    @cached_property
    def teacher_places(self) -> tuple[list[str], Float[Tensor, "teachers width"]]:
        """Names of the teachers' tasks, and where their prompts lie among the conditions."""
        assert self.teachers is not None
        known = [task for task in self.teacher_tasks if task.name in self.teachers.names]
        if not known:
            raise UsageError("nearest-teacher needs the teachers' task files; add their folder to --tasks")
        places = [self._place(self.prompts(task, 0, _PROMPTS_TO_RECOGNISE)) for task in known]
        return [task.name for task in known], torch.stack(places)

    def nearest(self, prompts: Sequence[str]) -> str:
        """The teacher whose task's prompts are the most similar (cosine of the standardised means)."""
        names, places = self.teacher_places
        return names[int(torch.nn.functional.cosine_similarity(places, self._place(prompts)[None]).argmax())]

    def _place(self, prompts: Sequence[str]) -> Float[Tensor, " width"]:
        return self.generator.pooling.standard(self.pipeline(self.generator).conditions(prompts).mean(0))
