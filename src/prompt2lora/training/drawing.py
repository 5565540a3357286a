"""What a step of end-to-end training is made of, drawn from the step's number alone, so that it can be drawn ahead.

In: a recipe, tasks, a base's chat format. Out: per step a `Drawn`: tasks, what the base is asked of them, prompts for
their adapters. For an accelerator, other processes draw the next steps while it computes: 64 tasks take half a second
of a core, and with examples before the questions two. The same is drawn either way. It knows no weights.
"""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from random import Random
from types import TracebackType
from typing import NamedTuple

from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.versions import usable_cores
from prompt2lora.training import sampling
from prompt2lora.training.questions import Questions, draw_questions, draw_tasks
from prompt2lora.training.recipe import Recipe
from prompt2lora.training.tasks import Task

_AHEAD = 2  # steps for every process
_LEFT = 2  # cores for the process that trains


class Drawn(NamedTuple):
    """`groups` are the prompts that each task's adapter is made of."""

    questions: Questions
    groups: list[list[str]]


@dataclass(frozen=True)
class Drawing:
    """Draws by step; `families` are those of the synthetic tasks that are drawn anew."""

    recipe: Recipe
    fit: list[Task]
    families: list[str]
    prompts: sampling.PromptPool
    chat: ChatFormat

    def __call__(self, step: int) -> Drawn:
        stage = self.recipe.stages[self.recipe.stage_at(step)[0]]
        random, _ = seeded(self.recipe.seed, step)
        share = self.recipe.synthetic
        tasks = draw_tasks(self.fit, stage, random, synthetic_share=share, families=self.families)
        if self.recipe.published_share:
            tasks = self._with_published(tasks, random)
        questions = draw_questions(tasks, stage, self.chat, random)
        return Drawn(questions, [self.prompts.draw(task, random) for task in tasks])

    def _with_published(self, tasks: list[Task], random: Random) -> list[Task]:
        """The tasks, each replaced by a published one with the recipe's probability."""
        published = [task for task in self.fit if task.name in self.recipe.published]
        share = self.recipe.published_share if published else 0.0
        return [random.choice(published) if random.random() < share else task for task in tasks]


def seeded(seed: int, step: int) -> tuple[Random, int]:
    """What a step draws from, and the seed of its dropout."""
    random = Random(f"{seed} {step}")
    return random, random.getrandbits(63)


class DrawnAhead:
    """The draws of consecutive steps up to `steps`, made by so many other processes; by none: when they are asked for.
    A base that reads pictures draws by none, since what reads them holds its model.

    A process that dies is an error of the step that it drew. None is left at the end of the block.
    """

    def __init__(self, drawing: Drawing, steps: int, processes: int) -> None:
        self.drawing, self.steps, self.processes = drawing, steps, processes
        self._drawn: dict[int, Future[Drawn]] = {}
        self._pool: ProcessPoolExecutor | None = None
        if processes and not drawing.chat.pictures:
            self._pool = ProcessPoolExecutor(processes, _context(drawing), _begin, (drawing,))

    def __enter__(self) -> DrawnAhead:
        return self

    def __call__(self, step: int) -> Drawn:
        if self._pool is None:
            return self.drawing(step)
        for at in range(step, min(step + 1 + _AHEAD * self.processes, self.steps)):
            if at not in self._drawn:
                self._drawn[at] = self._pool.submit(_draw, at)
        return self._drawn.pop(step).result()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


def drawing_processes(device: str) -> int:
    """How many draw ahead: for an accelerator as many as there are cores; for a CPU, which computes itself, none."""
    return 0 if device == "cpu" else max(1, usable_cores() - _LEFT)


def _context(drawing: Drawing) -> BaseContext:
    """How the others begin: never forked off a process that holds an accelerator and threads, but where that can be off
    one that has loaded what they need (this module and that of the tokenizer) once for all and holds neither."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, type(drawing.chat.tokenizer).__module__])
    return context


_mine: list[Drawing] = []  # of a process that draws


def _begin(drawing: Drawing) -> None:
    import torch

    torch.set_num_threads(1)
    _mine[:] = [drawing]


def _draw(step: int) -> Drawn:
    return _mine[0](step)
