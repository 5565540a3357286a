"""Plain LoRA fine-tuning on labelled examples of one task: what makes a teacher and what the few-shot rivals do.

In: a frozen base, a weight grid to begin from, examples. Out: the same grid, trained in place, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.grid import initial_grid
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import stack
from prompt2lora.errors import UsageError
from prompt2lora.ground.progress import Report, silent
from prompt2lora.training import objectives, sampling
from prompt2lora.training.tasks import Example, Task

_LEAST_TO_REFINE = 8
_OFFERED = 48  # examples offered to a step; more than fit


@dataclass(frozen=True)
class TuningOptions:
    """steps          optimiser steps
    budget         tokens per step
    bare           probability that a step leaves the instruction out, so that one adapter serves both forms
    learning_rate  highest rate, of AdamW, after a warm-up of six steps and before a linear decay
    seed           of the initial A and of the examples
    """

    steps: int = 48
    budget: int = 512
    bare: float = 0.5
    learning_rate: float = 2e-3
    seed: int = 0


def steps(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    task: Task,
    examples: Sequence[Example],
    options: TuningOptions,
) -> Iterator[float]:
    """Train `grid` in place on examples drawn anew for every step; gives the loss of every step."""

    def loss(step: int) -> Float[Tensor, ""]:
        random = Random(f"{options.seed} {task.name} {step}")
        chosen = random.sample(examples, min(len(examples), _OFFERED))
        bare = random.random() < options.bare
        return judged(base, grid, task, chosen, bare=bare, budget=options.budget).loss.mean()

    return descend(grid, options, loss)


def descend(
    grid: Float[Tensor, "layers rows cols"], options: TuningOptions, loss: Callable[[int], Float[Tensor, ""]]
) -> Iterator[float]:
    """Train `grid` in place by the loss of every step, counted from 1; gives that loss."""
    optimiser = torch.optim.AdamW([grid], lr=options.learning_rate, weight_decay=0.0)
    for step in range(1, options.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * min(1.0, step / 6, 2 * (1 - step / (options.steps + 1)) + 0.05)
        found = loss(step)
        optimiser.zero_grad(set_to_none=True)
        found.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([grid], 1.0)
        optimiser.step()
        yield float(found.detach())


def fit(
    base: Frozen, task: Task, examples: Sequence[Example], options: TuningOptions
) -> Float[Tensor, "layers rows cols"]:
    """A new LoRA for one task."""
    grid = initial_grid(base.layout, options.seed).to(base.model.device).requires_grad_()
    for _ in steps(base, grid, task, examples, options):
        pass
    return grid.detach().cpu()


class Refined(NamedTuple):
    """What a second stage made: `grid` is the best that was seen on the held-out examples, its start included.

    before, after   (exact match, minus loss) on the held-out examples, summed over the forms that are trained
    steps           optimiser steps that `grid` took; 0: nothing was better than the start, which was kept
    """

    grid: Float[Tensor, "layers rows cols"]
    before: tuple[float, float]
    after: tuple[float, float]
    steps: int
    held_out: int


def refine(
    base: Frozen,
    start: Float[Tensor, "layers rows cols"],
    task: Task,
    examples: Sequence[Example],
    options: TuningOptions,
    *,
    every: int = 4,
    patience: int = 3,
    report: Report = silent,
) -> Refined:
    """A short fine-tune of an adapter on labelled examples, a quarter of which decides when to stop and what to keep.

    Raises UsageError for fewer than eight examples.
    """
    if len(examples) < _LEAST_TO_REFINE:
        raise UsageError(
            f"a second stage needs at least {_LEAST_TO_REFINE} labelled examples and has {len(examples)}; add some"
        )
    shuffled = random_order(examples, f"{options.seed} {task.name} refine")
    held_out, used = shuffled[: len(examples) // 4], shuffled[len(examples) // 4 :]

    @torch.no_grad()
    def score() -> tuple[float, float]:
        found = [judged(base, grid, task, held_out, bare=form) for form in forms]
        return sum(float(one.exact) for one in found), -sum(float(one.loss) for one in found)

    forms = [form for form, asked in ((False, options.bare < 1), (True, options.bare > 0)) if asked]
    grid = start.to(base.model.device).clone().requires_grad_()
    before = best = score()
    kept, taken, waited = start, 0, 0
    for step, _ in enumerate(steps(base, grid, task, used, options), 1):
        report({"done": step, "of": options.steps})
        if step % every and step != options.steps:
            continue
        now = score()
        if now > best:
            best, kept, taken, waited = now, grid.detach().cpu().clone(), step, 0
        else:
            waited += 1
            if waited >= patience:
                break
    return Refined(kept, before, best, taken, len(held_out))


def random_order(examples: Sequence[Example], seed: str) -> list[Example]:
    """All examples, in an order that depends on the seed alone."""
    shuffled = list(examples)
    Random(seed).shuffle(shuffled)
    return shuffled


def judged(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    task: Task,
    examples: Sequence[Example],
    *,
    bare: bool = False,
    budget: int = 2048,
) -> objectives.Answers:
    """Loss and teacher-forced exact match of one adapter on as many of the examples as the budget holds."""
    pack = sampling.make_pack(task, examples, base.chat, bare=bare, budget=budget)
    batch = stack([pack], base.chat.padding).to(base.model.device)
    return objectives.end_to_end(base.model, base.layout, grid[None].to(base.model.device), batch)
