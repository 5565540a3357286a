"""Tasks that the base answers itself, so that adapters keep what it can do: programs, queries, worked problems.

In: a base, how many tasks, a seed. Out: tasks whose right answers are the base's own greedy ones (self-distillation,
arXiv 2402.13669); of worked problems those with the right result alone (rejection sampling, arXiv 2308.01825). They are
kept as task files: what is answered stays answered after a cut.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from prompt2lora.base.decoding import ScoredAnswer, scored_answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.ground.files import write_text
from prompt2lora.ground.progress import Report, part
from prompt2lora.ground.prompts import full_prompt
from prompt2lora.training.synthetic.requests import Request, draw_asking
from prompt2lora.training.tasks import Task, read_task

PREFIX = "self_answered_"  # of the names of tasks and families
_REQUESTS, _FEWEST = 12, 2  # requests of a task; answers worth keeping in each of its parts, else there is no task
_TEST = 3  # every third request is in the test part
_MAX_NEW_TOKENS = 256
_HELD_OUT = 5  # one in so many tasks of a kind
_TOGETHER = 5  # tasks whose requests are answered at once


class _Drawn(NamedTuple):
    family: str
    instruction: str
    requests: list[Request]

    @property
    def prompts(self) -> list[str]:
        return [full_prompt(self.instruction, request.text) for request in self.requests]

    def file(self, name: str, answers: list[ScoredAnswer]) -> str:
        """A task file of the answers that are worth keeping; an empty one if they are too few."""
        description = {"task": name, "instruction": self.instruction, "family": self.family, "split": "train"}
        parts: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
        for number, (request, answer) in enumerate(zip(self.requests, answers, strict=True)):
            if kept := "" if answer.cut else request.kept(answer.text):
                part = "train" if number % _TEST else "test"
                parts[part].append({"part": part, "input": request.text, "output": kept})
        rows = [description, *parts["train"], *parts["test"]] if min(map(len, parts.values())) >= _FEWEST else []
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def self_answered_tasks(folder: Path, count: int, seed: int, base: Callable[[], Frozen], report: Report) -> list[Task]:
    """`count` tasks, less those with too few answers worth keeping; `base` is asked for only if a file is missing."""
    files = [folder / f"{PREFIX}{number}.jsonl" for number in range(count)]
    for start in range(0, count, _TOGETHER):
        some = files[start : start + _TOGETHER]
        if not all(file.exists() for file in some):
            with part(report, start / count, (start + len(some)) / count):
                _answer(base(), some, [_drawn(number, seed) for number in range(start, start + len(some))])
            report({"done": start + len(some), "of": count})
    return [read_task(file) for file in files if file.stat().st_size]


def parted(tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
    """(fit, held out): of every kind the first in five tasks is held out."""
    seen: Counter[str] = Counter()
    parts: tuple[list[Task], list[Task]] = ([], [])
    for task in tasks:
        parts[seen[task.family] % _HELD_OUT == 0].append(task)
        seen[task.family] += 1
    return parts


def _answer(base: Frozen, files: list[Path], drawn: list[_Drawn]) -> None:
    prompts = [prompt for one in drawn for prompt in one.prompts]
    answers = scored_answers(base.model, base.chat, prompts, max_new_tokens=_MAX_NEW_TOKENS)
    for file, one in zip(files, drawn, strict=True):
        write_text(file, one.file(file.stem, answers[: len(one.requests)]))
        answers = answers[len(one.requests) :]


def _drawn(number: int, seed: int) -> _Drawn:
    random = Random(f"{seed} {PREFIX}{number}")
    kind, asking = draw_asking(number, random)
    requests = {request.text: request for request in (asking.request(random) for _ in range(_REQUESTS))}
    return _Drawn(PREFIX + kind, asking.instruction, list(requests.values()))
