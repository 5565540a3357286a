"""What the base is asked in one step of end-to-end training: of every drawn task a pack of its examples.

In: tasks, a stage of a recipe, a random generator seeded by the step (so that a resumed run draws the same).
Out: packs, and for each whether the shared adapter alone answers and whether a teacher is asked too. It knows no
weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.packing import UNLIMITED, Pack, PackBatch, stack
from prompt2lora.training import augmentation, sampling, synthetic
from prompt2lora.training.recipe import Stage
from prompt2lora.training.tasks import Example, Task


@dataclass(frozen=True)
class Questions:
    """packs   what is asked, a sequence a task
    alone   which tasks the shared adapter alone answers
    taught  numbers of the tasks that are asked without their instruction and learn from a teacher who is told it
    told    what those teachers are asked; None if there are none
    others  examples of each task that the shared adapter practises on before it is asked; of no task if it does not
    """

    tasks: list[Task]
    packs: PackBatch
    alone: list[bool]
    taught: list[int]
    told: PackBatch | None
    others: list[list[Example]]


def draw_tasks(
    fit: Sequence[Task], stage: Stage, random: Random, *, synthetic_share: float, families: Sequence[str]
) -> list[Task]:
    """A stage's number of tasks: some are synthetic ones of these families, some twisted, some with lettered options
    (augmentation.py)."""
    tasks = sampling.draw_tasks(fit, sampling.task_weights(fit), stage.tasks, random)
    tasks = [synthetic.draw_task(random, families) if random.random() < synthetic_share else task for task in tasks]
    return [_augmented(task, stage, random) for task in tasks]


def _augmented(task: Task, stage: Stage, random: Random) -> Task:
    """The task as it is, twisted or lettered: a choice of a letter obeys no other form."""
    if random.random() < stage.twisted:
        return augmentation.draw(task, random)
    if stage.lettered and random.random() < stage.lettered:
        return augmentation.lettered(task, random) or task
    return task


def draw_questions(tasks: list[Task], stage: Stage, chat: ChatFormat, random: Random) -> Questions:
    """Questions of each of the tasks, in the forms that the stage asks for."""
    count = random.choice(stage.examples) if len(stage.examples) > 1 else stage.examples[0]
    knows = count > 0 or stage.alone < 1  # else nothing could tell a bare question's task
    bare = [random.random() < stage.bare and knows for _ in tasks]
    alone = [(count > 0 or not hidden) and random.random() < stage.alone for hidden in bare]
    examples = [sampling.draw_examples(task, random) for task in tasks]
    turns: list[list[tuple[str, str]]] = [[] for _ in tasks]
    others: list[list[Example]] = []
    if count:
        examples = [some[: len(some) - min(count, len(some) // 2)] for some in examples]  # the others may be turns
        if stage.practice:
            examples = [_leaving_others(task, some) for task, some in zip(tasks, examples, strict=True)]
            pairs = zip(tasks, examples, strict=True)
            others = [sampling.draw_others(task, some, count, random) for task, some in pairs]
        else:
            turns = [
                sampling.draw_turns(task, some, count, chat, random, bare=hidden, room=stage.context)
                for task, some, hidden in zip(tasks, examples, bare, strict=True)
            ]

    def pack(i: int, *, hidden: bool, budget: int = stage.budget) -> Pack:
        return sampling.make_pack(tasks[i], examples[i], chat, bare=hidden, budget=budget, turns=turns[i])

    taught = [i for i in range(len(tasks)) if bare[i]] if stage.distil else []
    whole = [pack(i, hidden=False) for i in taught]
    for i, found in zip(taught, whole, strict=True):
        examples[i] = [examples[i][j] for j in found.used]
    budgets = [UNLIMITED if i in taught else stage.budget for i in range(len(tasks))]
    packs = [pack(i, hidden=bare[i], budget=budget) for i, budget in enumerate(budgets)]
    told = stack(whole, chat.padding) if taught else None
    return Questions(tasks, stack(packs, chat.padding), alone, taught, told, others)


def _leaving_others(task: Task, asked: list[Example]) -> list[Example]:
    """The examples that are asked, without one input where nothing else of the task would be left to practise on."""
    if {one.input for one in asked} < {one.input for one in task.train}:
        return asked
    return [one for one in asked if one.input != asked[-1].input] or asked
