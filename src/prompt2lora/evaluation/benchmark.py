"""Tasks and arms -> a table of scores with intervals: the only place where answers are judged.

In: tasks, a generator, a base. Out: a JSON-ready dictionary that says how it was made. Prompts come from
the inputs of a task's `train` rows (their answers are never read), scores from its `test` rows.

Forms: full, the model is asked with instruction and input; bare, with the input alone, the instruction
having gone only into the prompts that made the adapter.
Arms: base, no adapter; generated, from the task's own prompts; wrong-prompt, from another task's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from torch import Tensor

from prompt2lora.errors import UsageError
from prompt2lora.evaluation.decoding import answers
from prompt2lora.evaluation.metrics import exact_match
from prompt2lora.evaluation.statistics import mean_interval, paired_difference
from prompt2lora.generator.conditions import Encoder
from prompt2lora.generator.generator import Generator
from prompt2lora.progress import Report, silent
from prompt2lora.training.packs import ChatFormat
from prompt2lora.training.tasks import Row, Task

FORMS = ("full", "bare")
_SLACK = 8  # tokens an answer may be longer than the longest reference; a longer one is wrong in any case


@dataclass
class Judge:
    """What every arm needs: the base, the generator, and each task's prompts and rows."""

    model: Any
    chat: ChatFormat
    generator: Generator
    encoder: Encoder
    tasks: Sequence[Task]
    prompts_per_task: int
    limit: int | None
    seed: int
    _grids: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def rows(self, task: Task) -> tuple[Row, ...]:
        return task.test[: self.limit]

    def prompts(self, task: Task) -> list[str]:
        inputs = sorted({row.input for row in task.train})
        chosen = Random(f"{self.seed} {task.name}").sample(inputs, min(self.prompts_per_task, len(inputs)))
        return [task.prompt(text) for text in chosen]

    def grid(self, task: Task) -> Tensor:
        if task.name not in self._grids:
            self._grids[task.name] = self.generator.generate(self.encoder.conditions(self.prompts(task)))
        return self._grids[task.name]

    def other(self, task: Task) -> Task:
        """The task whose prompts are the wrong ones: the next but some in a fixed shuffle, never the task itself."""
        order = sorted(self.tasks, key=lambda other: Random(f"{self.seed} {other.name}").random())
        return order[(order.index(task) + 1) % len(order)]

    def scores(self, task: Task, form: str, grid: Tensor | None) -> list[float]:
        rows = self.rows(task)
        prompts = [row.input if form == "bare" else task.prompt(row.input) for row in rows]
        references = self.chat.answer_ids([row.output for row in rows])
        given = answers(
            self.model,
            self.chat,
            prompts,
            layout=self.generator.config.layout,
            grid=grid,
            longest=max(map(len, references)) + _SLACK,
        )
        return [exact_match(answer, row.output) for answer, row in zip(given, rows, strict=True)]


ARMS: dict[str, Callable[[Judge, Task], Tensor | None]] = {
    "base": lambda judge, task: None,
    "generated": lambda judge, task: judge.grid(task),
    "wrong-prompt": lambda judge, task: judge.grid(judge.other(task)),
}


def check_request(tasks: Sequence[Task], arms: Sequence[str], forms: Sequence[str]) -> None:
    """Raises UsageError for an unknown arm or form, a task without prompts or rows, or too few tasks for an arm."""
    for kind, asked, known in (("arm", arms, tuple(ARMS)), ("form", forms, FORMS)):
        if not asked:
            raise UsageError(f"at least one {kind} is needed; there are {', '.join(known)}")
        for name in asked:
            if name not in known:
                raise UsageError(f"unknown {kind} {name!r}; there are {', '.join(known)}")
    if "wrong-prompt" in arms and len(tasks) < 2:
        raise UsageError("the arm wrong-prompt needs at least two tasks and there is one; add a task or leave it out")
    if list(forms) == ["bare"] and not any(task.instruction for task in tasks):
        raise UsageError("the bare form leaves the instruction out and no task has one; ask for the form full")
    for task in tasks:
        for part, rows in (("train", task.train), ("test", task.test)):
            if not rows:
                raise UsageError(f'task {task.name} has no rows of part "{part}"; add some or leave the task out')


def run(judge: Judge, arms: Sequence[str], forms: Sequence[str], report: Report = silent) -> dict[str, Any]:
    """Score every arm in every form on every task; see the module's head for what comes out."""
    began = time.monotonic()
    scores: dict[str, dict[str, dict[str, list[float]]]] = {}
    for done, task in enumerate(judge.tasks, 1):
        scores[task.name] = {}
        for form in forms:
            if form == "bare" and not task.instruction:
                continue
            scored = {arm: judge.scores(task, form, ARMS[arm](judge, task)) for arm in arms}
            scores[task.name][form] = scored
            means = {arm: round(sum(rows) / len(rows), 3) for arm, rows in scored.items()}
            report({"done": done, "of": len(judge.tasks), "task": task.name, "form": form, **means})
    counted = [form for form in forms if any(form in by_form for by_form in scores.values())]
    return {
        "tasks": {
            name: {form: {arm: _cell(rows) for arm, rows in by_arm.items()} for form, by_arm in by_form.items()}
            for name, by_form in scores.items()
        },
        "mean": {form: _means(scores, form, arms) for form in counted},
        "difference": {form: _differences(scores, form, arms) for form in counted},
        "seconds": round(time.monotonic() - began, 1),
    }


def _cell(scores: list[float]) -> dict[str, Any]:
    return {"score": round(sum(scores) / len(scores), 4), "n": len(scores)}


def _means(scores: Any, form: str, arms: Sequence[str]) -> dict[str, Any]:
    return {
        arm: _rounded(mean_interval([by[form][arm] for by in scores.values() if form in by])._asdict()) for arm in arms
    }


def _differences(scores: Any, form: str, arms: Sequence[str]) -> dict[str, Any]:
    """generated minus every other arm, paired."""
    if "generated" not in arms:
        return {}
    having = [by[form] for by in scores.values() if form in by]
    return {
        f"generated - {arm}": _rounded(
            paired_difference([by["generated"] for by in having], [by[arm] for by in having])._asdict()
        )
        for arm in arms
        if arm != "generated"
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items()}
