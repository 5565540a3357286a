"""Synthetic training tasks: small language jobs with drawn parameters, as many as one likes.

In: a random generator. Out: `Task` values, always the same for the same seed. Many families read the same kind
of input and differ in the instruction alone, so that only the prompts tell them apart. The families of every language
have a registry of their own; what is drawn of one does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from prompt2lora.training.synthetic import (
    anything,
    composed,
    japanese,
    letters,
    lists,
    materials,
    mathematics,
    messages,
    notes,
    numbers,
    programs,
    sentences,
)
from prompt2lora.training.synthetic.drafts import FAMILIES, Draft
from prompt2lora.training.tasks import Example, Task

__all__ = [
    "FAMILIES",
    "anything",
    "composed",
    "draw_task",
    "families",
    "japanese",
    "letters",
    "lists",
    "materials",
    "mathematics",
    "messages",
    "notes",
    "numbers",
    "programs",
    "sentences",
    "synthetic_tasks",
]

PREFIX = "synthetic_"  # of the names of tasks and families
TRAIN_EXAMPLES, TEST_EXAMPLES = 64, 16
_ROUNDS = 20  # of all families without a new instruction: there are no more
LANGUAGES = {
    "en": FAMILIES,
    "ja": japanese.FAMILIES,
    "en-mathematics": mathematics.FAMILIES,
    "ja-mathematics": japanese.mathematics.FAMILIES,
}
_MAKERS = {name: make for registry in LANGUAGES.values() for name, make in registry.items()}


def families(languages: Sequence[str] = ("en",)) -> list[str]:
    """Names of the families whose instructions are in one of the languages."""
    return sorted({name for language in languages for name in LANGUAGES[language]})


def synthetic_tasks(count: int, seed: int, languages: Sequence[str] = ("en",)) -> list[Task]:
    """`count` tasks with different instructions, the families of the languages in turn; fewer if there are no more."""
    names, tasks, instructions, number, newest = families(languages), list[Task](), set[str](), 0, 0
    while len(tasks) < count and number - newest < _ROUNDS * len(names):
        name = names[number % len(names)]
        task = _draw(name, f"{name}_{number}", Random(f"{seed} {name} {number}"))
        if task and task.instruction not in instructions:
            instructions.add(task.instruction)
            tasks.append(task)
            newest = number
        number += 1
    return tasks


def draw_task(random: Random, names: Sequence[str]) -> Task:
    """One task of any of the families of these names."""
    task = None
    while task is None:
        name = random.choice(names)
        task = _draw(name, name, random)
    return task


def _draw(family: str, name: str, random: Random) -> Task | None:
    """A task of a family; none if its draft has too few different inputs."""
    draft = _MAKERS[family](random)
    instruction = random.choice(draft.wordings)
    examples = _examples(draft, random)
    parts = tuple(examples[:TRAIN_EXAMPLES]), tuple(examples[TRAIN_EXAMPLES:])
    return Task(PREFIX + name, instruction, PREFIX + family, "train", *parts) if examples else None


def _examples(draft: Draft, random: Random) -> list[Example]:
    """Examples of different inputs; fewer than asked for if the family has no more, none if far fewer."""
    examples: dict[str, Example] = {}
    for _ in range(20 * (TRAIN_EXAMPLES + TEST_EXAMPLES)):
        text, answer = draft.example(random)
        if answer:
            examples.setdefault(text, Example(text, answer))
        if len(examples) == TRAIN_EXAMPLES + TEST_EXAMPLES:
            return list(examples.values())
    return list(examples.values()) if len(examples) > 2 * TEST_EXAMPLES else []
