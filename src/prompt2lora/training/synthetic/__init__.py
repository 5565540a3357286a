"""Synthetic training tasks: small language jobs with drawn parameters, as many as one likes.

In: a random generator. Out: `Task` values, always the same for the same seed. Many families read the same kind
of input and differ in the instruction alone, so that only the prompts tell them apart.
"""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic import (
    anything,
    composed,
    letters,
    lists,
    materials,
    messages,
    notes,
    numbers,
    programs,
    sentences,
)
from prompt2lora.training.synthetic.drafts import FAMILIES, Draft
from prompt2lora.training.tasks import Row, Task

__all__ = [
    "FAMILIES",
    "anything",
    "composed",
    "draw_task",
    "letters",
    "lists",
    "materials",
    "messages",
    "notes",
    "numbers",
    "programs",
    "sentences",
    "synthetic_tasks",
]

PREFIX = "synthetic_"  # of the names of tasks and families
TRAIN_ROWS, TEST_ROWS = 64, 16


def synthetic_tasks(count: int, seed: int) -> list[Task]:
    """`count` tasks with different instructions, the families in turn."""
    names, tasks, instructions, number = sorted(FAMILIES), list[Task](), set[str](), 0
    while len(tasks) < count:
        name = names[number % len(names)]
        task = _draw(name, f"{name}_{number}", Random(f"{seed} {name} {number}"))
        if task and task.instruction not in instructions:
            instructions.add(task.instruction)
            tasks.append(task)
        number += 1
    return tasks


def draw_task(random: Random) -> Task:
    """One task of any family."""
    task = None
    while task is None:
        name = random.choice(sorted(FAMILIES))
        task = _draw(name, name, random)
    return task


def _draw(family: str, name: str, random: Random) -> Task | None:
    """A task of a family; none if its draft has too few different inputs."""
    draft = FAMILIES[family](random)
    instruction = random.choice(draft.wordings)
    rows = _rows(draft, random)
    parts = tuple(rows[:TRAIN_ROWS]), tuple(rows[TRAIN_ROWS:])
    return Task(PREFIX + name, instruction, PREFIX + family, "train", *parts) if rows else None


def _rows(draft: Draft, random: Random) -> list[Row]:
    """Rows of different inputs; fewer than asked for if the family has no more, none if far fewer."""
    rows: dict[str, Row] = {}
    for _ in range(20 * (TRAIN_ROWS + TEST_ROWS)):
        text, answer = draft.row(random)
        if answer:
            rows.setdefault(text, Row(text, answer))
        if len(rows) == TRAIN_ROWS + TEST_ROWS:
            return list(rows.values())
    return list(rows.values()) if len(rows) > 2 * TEST_ROWS else []
