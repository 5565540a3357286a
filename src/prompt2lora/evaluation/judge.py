"""Tasks and arms -> scores of single answers.

In: what is to be scored, and what the arms draw on. Out: the scores of every example, with their costs. Prompts come
from the inputs of a task's training part (their answers are never read), scores from its test part.

Forms: full, the model is asked with instruction and input; bare, with the input alone, the instruction having gone
only into the prompts that made the adapter.

The scores of every example are kept in a file under the digest of all they depend on: data, versions, and the revisions
of the code. So hours of work go on after any cut, and no score is taken for that of other code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from prompt2lora.base.decoding import answers
from prompt2lora.errors import UsageError
from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.attempts import Answerer, Attempt, make
from prompt2lora.evaluation.metrics import METRICS
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.results import ExampleScores, Scored, Seconds
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.progress import part, tell
from prompt2lora.training.tasks import Task

T = TypeVar("T")
FORMS = ("full", "bare")
DEFAULT_ARMS = ("base", "generated", "wrong-prompt")
_SLACK = 8  # tokens an answer may be longer than the longest reference; a longer one is wrong in any case
_ANSWERING = ("answers", "prompts")  # components of the code that every score depends on


@dataclass(frozen=True)
class BenchmarkRequest:
    """What is to be scored. Prompts and examples are drawn anew for every seed; scores are means over the seeds."""

    arms: tuple[str, ...] = DEFAULT_ARMS
    forms: tuple[str, ...] = FORMS
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises UsageError for an unknown arm or form, a task without examples, or too few tasks for an arm."""
        for kind, asked, known in (("arm", self.arms, tuple(ARMS)), ("form", self.forms, FORMS)):
            if not asked:
                raise UsageError(f"at least one {kind} is needed; there are {', '.join(known)}")
            for name in asked:
                if name not in known:
                    raise UsageError(f"unknown {kind} {name!r}; there are {', '.join(known)}")
        if "wrong-prompt" in self.arms and len(tasks) < 2:
            raise UsageError(
                "the arm wrong-prompt needs at least two tasks and there is one; add a task or leave it out"
            )
        if self.forms == ("bare",) and not any(task.instruction for task in tasks):
            raise UsageError("the bare form leaves the instruction out and no task has one; ask for the form full")
        for task in tasks:
            for which, examples in (("train", task.train), ("test", task.test)):
                if not examples:
                    raise UsageError(
                        f'task {task.name} has no examples of part "{which}"; add some or leave the task out'
                    )


@dataclass
class Judge:
    """Answers and scores, and keeps what it scores among that of before."""

    resources: Resources
    request: BenchmarkRequest
    _made: dict[str, Answerer] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget the adapters of the task before."""
        self._made.clear()

    def made(self, attempt: Attempt) -> Answerer:
        """What answers an attempt, made once for all forms."""
        key = json.dumps(attempt.depends)
        if key not in self._made:
            self._made[key] = make(attempt, self.resources.base)
        return self._made[key]

    def key(self, task: Task, form: str, attempt: Attempt) -> str:
        """The digest of all that the scores of an attempt depend on."""
        asked = [[example.input, example.output] for example in task.test[: self.request.limit]]
        depends = [form, task.instruction, asked, self._max_new_tokens(task), attempt.depends]
        compared = [] if task.comparison is Comparison.EXACT else [task.comparison]
        return self.resources.kept.key([*_ANSWERING, *attempt.code], depends, *compared)

    def judged(self, task: Task, form: str, attempt: Attempt) -> Scored:
        """The scores of an attempt, kept or new."""
        key = self.key(task, form, attempt)
        cache = self.resources.kept.cache
        if known := cache.get(key):
            return Scored.model_validate(known)
        examples = task.test[: self.request.limit]
        chat = self.resources.base.chat
        put = str if form == "bare" else task.prompt
        prompts = [put(example.input) for example in examples]
        shown = [(put(shot.input), shot.output) for shot in attempt.examples]
        with part(tell, 0.0, 0.5):
            base, grid, adapting = self.made(attempt)
        began = time.monotonic()
        with part(tell, 0.5, 1.0):
            given = answers(
                base.model,
                chat,
                prompts,
                examples=shown,
                layout=base.layout,
                grid=grid,
                max_new_tokens=self._max_new_tokens(task),
            )
        answering = time.monotonic() - began
        result = Scored(
            scores={
                metric: [
                    round(score(task.comparison, answer, one.output), 4)
                    for answer, one in zip(given, examples, strict=True)
                ]
                for metric, score in METRICS.items()
            },
            seconds=Seconds(adapt=adapting, answer=answering).rounded(),
            prompt_tokens=round(sum(map(len, chat.prompt_ids(prompts, shown))) / len(prompts), 1),
        )
        cache.add(key, result.to_dict())
        return result

    def scored(self, task: Task, form: str, arm: str) -> Scored:
        """Scores and costs of an arm, means over the seeds."""
        found = by_seed(self.resources, task, arm, self.request.seeds, lambda attempt: self.judged(task, form, attempt))
        tokens = sum(one.prompt_tokens for one in found) / len(found)
        return Scored(**dict(mean_scores(found)), prompt_tokens=round(tokens, 1))

    def _max_new_tokens(self, task: Task) -> int:
        outputs = [example.output for example in task.test[: self.request.limit]]
        return max(map(len, self.resources.base.chat.answer_ids(outputs))) + _SLACK


def by_seed(resources: Resources, task: Task, arm: str, seeds: Sequence[int], score: Callable[[Attempt], T]) -> list[T]:
    """What `score` makes of an arm's attempt at a task with every seed."""
    found = []
    for number, seed in enumerate(seeds):
        with part(tell, number / len(seeds), (number + 1) / len(seeds)):
            found.append(score(ARMS[arm].attempt(resources, task, seed)))
    return found


def mean_scores(found: Sequence[ExampleScores]) -> ExampleScores:
    """Example by example the means over seeds, and those of the seconds."""
    scores = {metric: np.mean([one.scores[metric] for one in found], axis=0).tolist() for metric in found[0].scores}
    adapt, answer = (float(np.mean([getattr(one.seconds, what) for one in found])) for what in ("adapt", "answer"))
    return ExampleScores(scores=scores, seconds=Seconds(adapt=adapt, answer=answer))
