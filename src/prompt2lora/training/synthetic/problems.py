"""What families of mathematics share: a problem with its steps and result, answered with the steps or without.

In: functions that draw problems, the wordings of a language. Out: families in a registry, and their drafts. A task
shows the steps always or never, and its instruction says which, and how the result is marked. It knows no language.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from prompt2lora.training.synthetic.drafts import Draft, Family

MARKS = ("#### {}", "\\boxed{{{}}}", "= {}")


class Problem(NamedTuple):
    text: str
    steps: tuple[str, ...]
    result: str


class Wordings(NamedTuple):
    """Instructions for the result alone, and for steps with the marked result at the end ({} is the mark's form);
    `number` is what stands for the result where the mark is shown in an instruction."""

    alone: Sequence[str]
    worked: Sequence[str]
    number: str


Draw = Callable[[Random], Problem]


def registry(prefix: str, wordings: Wordings) -> tuple[dict[str, Family], Callable[[Draw], Draw]]:
    """Families that are still to come, and what makes one of a function that draws problems, under its name."""
    families: dict[str, Family] = {}

    def family(draw: Draw) -> Draw:
        families[f"{prefix}_{draw.__name__}"] = lambda random: over_problems(random, draw, wordings)
        return draw

    return families, family


def over_problems(random: Random, draw: Draw, wordings: Wordings) -> Draft:
    if random.random() < 0.5:
        return Draft(tuple(wordings.alone), lambda random: _alone(draw(random)))
    mark = random.choice(MARKS)
    told = tuple(wording.format(mark.format(wordings.number)) for wording in wordings.worked)
    return Draft(told, lambda random: _worked(draw(random), mark))


def draw_with_mean(random: Random) -> tuple[list[int], int]:
    """A few numbers whose mean is a whole one, and it."""
    count, mean = random.randint(3, 5), random.randint(10, 60)
    values = [mean + random.randint(-9, 9) for _ in range(count - 1)]
    return [*values, mean * count - sum(values)], mean


def _alone(problem: Problem) -> tuple[str, str]:
    return problem.text, problem.result


def _worked(problem: Problem, mark: str) -> tuple[str, str]:
    return problem.text, "\n".join([*problem.steps, mark.format(problem.result)])
