"""Small programs over lists of numbers: one to three steps, told in words."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from prompt2lora.training.synthetic.drafts import NUMBER_WORDS, ORDINALS, Draft, family

Numbers = list[int]


class ProgramStep(NamedTuple):
    said: str
    run: Callable[[Numbers], Numbers]


def _step(random: Random) -> ProgramStep:
    n, count, at = random.randint(2, 9), random.randint(1, 3), random.randint(0, 2)
    some = f"{NUMBER_WORDS[count - 1]} number{'s' if count > 1 else ''}"
    return random.choice(
        [
            ProgramStep("drop the first number", lambda items: items[1:]),
            ProgramStep("drop the last number", lambda items: items[:-1]),
            ProgramStep(f"keep the first {some}", lambda items: items[:count]),
            ProgramStep(f"keep the last {some}", lambda items: items[-count:]),
            ProgramStep(f"leave out the {ORDINALS[at]} number", lambda items: items[:at] + items[at + 1 :]),
            ProgramStep("reverse the list", lambda items: items[::-1]),
            ProgramStep("sort from small to large", sorted),
            ProgramStep("sort from large to small", lambda items: sorted(items, reverse=True)),
            ProgramStep(f"keep what is above {n * 5}", lambda items: [item for item in items if item > n * 5]),
            ProgramStep(f"keep what is below {n * 8}", lambda items: [item for item in items if item < n * 8]),
            ProgramStep(f"add {n} to every number", lambda items: [item + n for item in items]),
            ProgramStep(f"put {n} at the end", lambda items: [*items, n]),
            ProgramStep(f"put {n} at the beginning", lambda items: [n, *items]),
            ProgramStep("write every number twice", lambda items: [item for item in items for _ in range(2)]),
            ProgramStep("leave out the largest number", lambda items: [item for item in items if item != max(items)]),
            ProgramStep("exchange the first and the last number", lambda items: [items[-1], *items[1:-1], items[0]]),
            ProgramStep("write the list twice", lambda items: items + items),
        ]
    )


_ENDS = (
    ProgramStep("write how many are left", lambda items: [len(items)]),
    ProgramStep("write the sum", lambda items: [sum(items)]),
    ProgramStep("write the largest", lambda items: [max(items)]),
    ProgramStep("write the first", lambda items: items[:1]),
)


def _program(random: Random, steps: list[ProgramStep]) -> Draft:
    form, separator = random.choice([("[{}]", ", "), ("{}", " "), ("{}", ", "), ("({})", ", "), ("{}", ";")])
    few, most = random.randint(3, 4), random.choice([9, 30, 99])

    def example(random: Random) -> tuple[str, str]:
        items = random.sample(range(most + 1), random.randint(few, few + 2))
        text, left = form.format(separator.join(map(str, items))), items
        for step in steps:
            left = step.run(left) if len(left) > 1 else []
        return text, form.format(separator.join(map(str, left))) if left else ""

    said = ", then ".join(step.said for step in steps)
    return Draft((f"{said[0].upper()}{said[1:]}.", f"Take the list and {said}.", f"For this list: {said}."), example)


@family
def one_step(random: Random) -> Draft:
    return _program(random, [_step(random)])


@family
def two_steps(random: Random) -> Draft:
    return _program(random, [_step(random), _step(random)])


@family
def step_and_end(random: Random) -> Draft:
    return _program(random, [_step(random), random.choice(_ENDS)])
