"""What families of mathematics share: a problem with its steps and result, answered with the steps or without.

In: a function that draws problems, the wordings of a language. Out: drafts. A task shows the steps always or never, and
its instruction says which, and how the result is marked. It knows no language.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from prompt2lora.training.synthetic.drafts import Draft

MARKS = ("#### {}", "\\boxed{{{}}}", "= {}")


class Problem(NamedTuple):
    text: str
    steps: tuple[str, ...]
    result: str


class Wordings(NamedTuple):
    """Instructions for the result alone, and for steps with the marked result at the end ({} is the mark's form)."""

    alone: Sequence[str]
    worked: Sequence[str]


def over_problems(random: Random, draw: Callable[[Random], Problem], wordings: Wordings, number: str) -> Draft:
    """`number` is what stands for the result where the mark is shown in the instruction."""
    if random.random() < 0.5:
        return Draft(tuple(wordings.alone), lambda random: _alone(draw(random)))
    mark = random.choice(MARKS)
    told = tuple(wording.format(mark.format(number)) for wording in wordings.worked)
    return Draft(told, lambda random: _worked(draw(random), mark))


def _alone(problem: Problem) -> tuple[str, str]:
    return problem.text, problem.result


def _worked(problem: Problem, mark: str) -> tuple[str, str]:
    return problem.text, "\n".join([*problem.steps, mark.format(problem.result)])
