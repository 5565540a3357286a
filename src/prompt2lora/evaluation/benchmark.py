"""Tasks and arms -> a table of scores with intervals: the only place where answers are judged.

In: tasks, arms and what they draw on. Out: a JSON-ready dictionary that says how it was made. Prompts come
from the inputs of a task's `train` rows (their answers are never read), scores from its `test` rows.

Forms: full, the model is asked with instruction and input; bare, with the input alone, the instruction
having gone only into the prompts that made the adapter.

Row scores are kept in a file under the digest of all they depend on, so that hours of work go on after any cut.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from prompt2lora.base.decoding import answers
from prompt2lora.base.versions import versions
from prompt2lora.errors import UsageError
from prompt2lora.evaluation.arms import ARMS, Attempt, Workbench, digest
from prompt2lora.evaluation.metrics import METRICS
from prompt2lora.evaluation.score_cache import Kept
from prompt2lora.evaluation.statistics import Interval, mean_interval, paired_difference
from prompt2lora.ground.progress import Report, silent
from prompt2lora.training.tasks import Task

FORMS = ("full", "bare")
DEFAULT_ARMS = ("base", "generated", "wrong-prompt")
OWN = "generated"  # the arm whose differences to all others are told
_SLACK = 8  # tokens an answer may be longer than the longest reference; a longer one is wrong in any case


@dataclass(frozen=True)
class Request:
    """What is to be scored. Arms that draw prompts or rows do so anew for every seed; scores are means over seeds."""

    arms: tuple[str, ...] = DEFAULT_ARMS
    forms: tuple[str, ...] = FORMS
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises UsageError for an unknown arm or form, a task without prompts or rows, or too few tasks for an arm."""
        for kind, asked, known in (("arm", self.arms, tuple(ARMS)), ("form", self.forms, FORMS)):
            if not asked:
                raise UsageError(f"at least one {kind} is needed; there are {', '.join(known)}")
            for name in asked:
                if name not in known:
                    raise UsageError(f"unknown {kind} {name!r}; there are {', '.join(known)}")
        for arm in self.arms:
            if arm.startswith("wrong-prompt") and len(tasks) < 2:
                raise UsageError(f"the arm {arm} needs at least two tasks and there is one; add a task or leave it out")
        if self.forms == ("bare",) and not any(task.instruction for task in tasks):
            raise UsageError("the bare form leaves the instruction out and no task has one; ask for the form full")
        for task in tasks:
            for part, rows in (("train", task.train), ("test", task.test)):
                if not rows:
                    raise UsageError(f'task {task.name} has no rows of part "{part}"; add some or leave the task out')


@dataclass
class Judge:
    """Answers and scores; `kept` holds scores of before, `base_digest` stands for the base's weights."""

    bench: Workbench
    request: Request
    kept: Kept
    base_digest: str
    _made: dict[str, tuple[Tensor | None, float]] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget the adapters of the task before."""
        self._made.clear()

    def made(self, attempt: Attempt) -> tuple[Tensor | None, float]:
        """The adapter of an attempt, made once for all forms, and the seconds that making it took."""
        key = json.dumps(attempt.depends)
        if key not in self._made:
            began = time.monotonic()
            self._made[key] = attempt.grid(), time.monotonic() - began
        return self._made[key]

    def judged(self, task: Task, form: str, attempt: Attempt) -> dict[str, Any]:
        """{"rows": {metric: scores}, "seconds": {"adapt", "answer"}, "prompt_tokens": mean per row}, kept or new."""
        rows = task.test[: self.request.limit]
        model, chat, layout = self.bench.base
        max_new_tokens = max(map(len, chat.answer_ids([row.output for row in rows]))) + _SLACK
        asked = [form, task.instruction, [[row.input, row.output] for row in rows], max_new_tokens]
        key = digest(json.dumps([versions(), self.base_digest, asked, attempt.depends], sort_keys=True))
        if known := self.kept.get(key):
            return known
        put = str if form == "bare" else task.prompt
        prompts = [put(row.input) for row in rows]
        examples = [(put(shot.input), shot.output) for shot in attempt.examples]
        grid, adapting = self.made(attempt)
        began = time.monotonic()
        given = answers(
            model, chat, prompts, examples=examples, layout=layout, grid=grid, max_new_tokens=max_new_tokens
        )
        result = {
            "rows": {
                metric: [round(score(answer, row.output), 4) for answer, row in zip(given, rows, strict=True)]
                for metric, score in METRICS.items()
            },
            "seconds": {"adapt": round(adapting, 3), "answer": round(time.monotonic() - began, 3)},
            "prompt_tokens": round(sum(map(len, chat.prompt_ids(prompts, examples))) / len(prompts), 1),
        }
        self.kept.add(key, result)
        return result

    def scored(self, task: Task, form: str, arm: str) -> dict[str, Any]:
        """Row scores by metric, means over the seeds; and the costs."""
        found = [self.judged(task, form, ARMS[arm](self.bench, task, seed)) for seed in self.request.seeds]
        rows = {metric: np.mean([one["rows"][metric] for one in found], axis=0).tolist() for metric in METRICS}
        costs = {step: sum(one["seconds"][step] for one in found) / len(found) for step in ("adapt", "answer")}
        return {"rows": rows, "seconds": costs, "prompt_tokens": found[0]["prompt_tokens"]}


def run(judge: Judge, report: Report = silent) -> dict[str, Any]:
    """Score every arm in every form on every task; see the module's head for what comes out.

    `seconds` is what adapting and answering took when it was done, one seed counted, kept answers included.
    """
    request, tasks = judge.request, judge.bench.tasks
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for done, task in enumerate(tasks, 1):
        scores[task.name] = {}
        judge.begin()
        for form in request.forms:
            if form == "bare" and not task.instruction:
                continue
            scored = {arm: judge.scored(task, form, arm) for arm in request.arms}
            scores[task.name][form] = scored
            means = {arm: round(float(np.mean(cell["rows"]["score"])), 3) for arm, cell in scored.items()}
            report({"done": done, "of": len(tasks), "task": task.name, "form": form, **means})
    cells = [cell for by_form in scores.values() for by_arm in by_form.values() for cell in by_arm.values()]
    having = {form: [by[form] for by in scores.values() if form in by] for form in request.forms}
    return {
        "tasks": {
            name: {form: {arm: _cell(cell) for arm, cell in by_arm.items()} for form, by_arm in by_form.items()}
            for name, by_form in scores.items()
        },
        "mean": {form: _means(asked, request.arms) for form, asked in having.items() if asked},
        "difference": {form: _differences(asked, request.arms) for form, asked in having.items() if asked},
        "request": {**request.to_dict(), "tasks": len(tasks), "prompts_per_task": judge.bench.prompts_per_task},
        "seconds": round(sum(sum(cell["seconds"].values()) for cell in cells), 1),
    }


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    means = {metric: round(float(np.mean(rows)), 4) for metric, rows in cell["rows"].items()}
    seconds = {step: round(value, 3) for step, value in cell["seconds"].items()}
    return {**means, "n": len(cell["rows"]["score"]), "seconds": seconds, "prompt_tokens": cell["prompt_tokens"]}


def _means(cells: Sequence[dict[str, Any]], arms: Sequence[str]) -> dict[str, Any]:
    return {arm: _summary([mean_interval(_rows(cells, arm, metric)) for metric in METRICS]) for arm in arms}


def _differences(cells: Sequence[dict[str, Any]], arms: Sequence[str]) -> dict[str, Any]:
    """The arm that this product stands for minus every other one, paired row by row."""
    return {
        f"{OWN} - {arm}": _summary(
            [paired_difference(_rows(cells, OWN, metric), _rows(cells, arm, metric)) for metric in METRICS]
        )
        for arm in arms
        if OWN in arms and arm != OWN
    }


def _rows(cells: Sequence[dict[str, Any]], arm: str, metric: str) -> list[list[float]]:
    return [by[arm]["rows"][metric] for by in cells]


def _summary(intervals: Sequence[Interval]) -> dict[str, Any]:
    """{"score", "low", "high"} of exact match, and the same of token F1 under "f1"."""
    exact, f1 = ({key: round(value, 4) for key, value in interval._asdict().items()} for interval in intervals)
    return {**exact, "f1": f1}
