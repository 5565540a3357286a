"""Which tasks a run trains on, and which it holds out to be validated on.

In: a recipe. Out: two lists of tasks, always the same for the same recipe and task files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from prompt2lora.errors import UsageError
from prompt2lora.training import synthetic
from prompt2lora.training.recipe import Recipe
from prompt2lora.training.suites import check_names, read_suites, training_part, without
from prompt2lora.training.tasks import Task, diverse, read_tasks, split_families

_SYNTHETIC_TASKS = 440  # that stand for the task files where there are none


def training_tasks(recipe: Recipe) -> tuple[list[Task], list[Task]]:
    """(fit, validation): of the recipe's task files, or synthetic ones if it names none. Raises UsageError."""
    if recipe.tasks:
        tasks = read_tasks([Path(recipe.tasks)], split="train")
    elif recipe.synthetic == 1:
        drawn = synthetic.synthetic_tasks(_SYNTHETIC_TASKS, recipe.seed, recipe.languages)
        tasks = [task for task in drawn if task.test]  # a family may have too few different inputs for both parts
    else:
        raise UsageError(
            f"a recipe needs a folder of task files unless synthetic is 1, and here it is {recipe.synthetic:g}; "
            "name the folder by --tasks"
        )
    tasks, published = _kept(tasks, recipe)
    for task in (*tasks, *published):
        if not task.train or not task.test:
            raise UsageError(f"task {task.name} needs examples of both parts, train and test; add some or leave it out")
    fit, validation = split_families(tasks, recipe.validation)
    fit = [*(diverse(fit, recipe.most) if recipe.most else fit), *published]
    if not fit:
        raise UsageError(f"validation {recipe.validation} holds out every task; lower it or add task families")
    if recipe.decodes and len(fit) < 2:
        raise UsageError(f"a generator is trained on at least two tasks and {fit[0].name} is alone; add task files")
    if any(stage.practice for stage in recipe.stages):
        for task in fit:
            if len({example.input for example in task.train}) < 2:
                raise UsageError(
                    f"practice needs another training example than the one asked, and task {task.name} has none; add "
                    "some or leave it out"
                )
    return fit, validation


def _kept(tasks: list[Task], recipe: Recipe) -> tuple[list[Task], list[Task]]:
    """The tasks, and the published ones that the recipe trains on as well, without all that it leaves out."""
    names = (*recipe.published, *recipe.without)
    check_names(names)
    if not names:
        return tasks, []
    if not recipe.suites:
        raise UsageError(f"the recipe names the published task {names[0]}; name their folder by --suites")
    folder = Path(recipe.suites)
    published = [training_part(one) for one in read_suites(folder, recipe.published)]
    return without(tasks, folder, recipe.without), without(published, folder, recipe.without)


def tasks_digest(tasks: Sequence[Task]) -> str:
    return hashlib.sha256("\n".join(task.digest for task in tasks).encode()).hexdigest()
