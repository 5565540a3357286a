"""Plain LoRA fine-tuning on labelled examples of one task: teachers, the few-shot rivals, the second stage.

In: a frozen base, a weight grid to begin from, examples. Out: the same grid, trained in place, step by step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.grid import initial_grid
from prompt2lora.base.decoding import answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import UNLIMITED, Pack, in_packs, pack_examples, stack
from prompt2lora.errors import UsageError
from prompt2lora.generator.examples import ExampleOptions, Labelled, check_examples, descend, practice
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.comparison import Comparison, composed
from prompt2lora.ground.pictures import Prompt, identity, rewritten
from prompt2lora.ground.progress import Report, listening, silent, tell
from prompt2lora.ground.prompts import full_prompt, input_of
from prompt2lora.training import objectives, sampling
from prompt2lora.training.tasks import Example, Task

_LEAST_TO_REFINE = 8
_SLACK = 8  # tokens an answer may be longer than the longest right one
_HELD_OUT_TOKENS = 2048  # at most, of what is judged at once
_WARMUP = 6  # steps from a LoRA that does nothing
_EVERY, _PATIENCE = 4, 3  # steps between two looks at what is held out; looks in vain that end it
_OFFERED = 48  # examples offered to a step; more than fit
T = TypeVar("T")


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
    grid: Float[Tensor, "layers rows cols"] | None,
    task: Task,
    examples: Sequence[Example],
    options: TuningOptions,
    weights: Sequence[Float[Tensor, "*_"]] = (),
) -> Iterator[float]:
    """Train `grid` in place, or without one `weights` of the base, on examples drawn anew for every step; gives the
    loss of every step. Where the first one drawn exceeds the budget, the step is its own.

    Raises UsageError for an example that is too long for the base.
    """
    check_examples(base, task.instruction, [(one.input, one.output) for one in examples])

    def loss(step: int) -> Float[Tensor, ""]:
        random = Random(f"{options.seed} {task.name} {step}")
        chosen = random.sample(examples, min(len(examples), _OFFERED))
        bare = random.random() < options.bare
        pack = sampling.make_pack(task, chosen, base.chat, bare=bare, budget=options.budget)
        if 0 not in pack.used:
            pack = sampling.make_pack(task, chosen[:1], base.chat, bare=bare, budget=options.budget)
        return _judged(base, grid, pack).loss.mean()

    return descend([grid] if grid is not None else weights, options.steps, options.learning_rate, loss, warmup=_WARMUP)


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

    before, after   (share of right answers, minus loss) on held-out examples; the mean of asking with the instruction
                    and without it, if there is one
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
    instruction: str,
    examples: Sequence[tuple[Prompt, str]],
    options: ExampleOptions,
    *,
    seed: int = 0,
    comparison: Comparison = Comparison.EXACT,
    form: AnswerForm | None = None,
    report: Report = tell,
) -> Refined:
    """Labelled examples (prompt, right answer) go into an adapter's weights as in `generator.examples`, with more time.

    A quarter of them is held out and decides when to stop and what to keep; of those with the same input the last one
    counts. Raises UsageError for fewer than eight.
    """
    inputs = [rewritten(prompt, lambda text: input_of(text, instruction)) for prompt, _ in examples]
    examples = [*{identity(text): (text, right) for text, (_, right) in zip(inputs, examples, strict=True)}.values()]
    if len(examples) < _LEAST_TO_REFINE:
        raise UsageError(
            f"a second stage needs at least {_LEAST_TO_REFINE} labelled examples and has {len(examples)} "
            "with different inputs; add some"
        )
    shuffled = random_order(examples, f"{seed} refine")
    held_out, used = shuffled[: len(examples) // 4], shuffled[len(examples) // 4 :]
    right = [composed(answer) for _, answer in held_out]
    inputs = [text for text, _ in held_out]
    told = [rewritten(prompt, lambda text: full_prompt(instruction, text)) for prompt in inputs]
    ways = (told, inputs) if instruction else (inputs,)
    wanted = base.chat.answer_ids(right)
    packs = [pack for prompts in ways for pack in _packs(base.chat.prompt_ids(prompts), wanted)]
    asked, tokens = len(right) * len(ways), sum(len(pack.labels) for pack in packs)

    @torch.no_grad()
    def score() -> tuple[float, float]:
        found = [(_judged(base, grid, pack), pack) for pack in packs]
        exact = sum(round(float(one.exact) * len(pack.used)) for one, pack in found) / asked
        loss = sum(float(one.loss) * len(pack.labels) for one, pack in found) / tokens
        if comparison is not Comparison.EXACT:  # other tokens may be right, too
            exact = sum(_right(base, grid, prompts, right, comparison, form) for prompts in ways) / len(ways)
        return exact, -loss

    grid = start.to(base.model.device).clone().requires_grad_()
    before = best = score()
    kept, taken, waited = start, 0, 0
    done, further = 0, practice(base, [grid], [Labelled(instruction, used)], options)
    with listening(report):
        while waited < _PATIENCE and (more := len(list(islice(further, _EVERY)))):
            done += more
            now = score()
            if now > best:
                best, kept, taken, waited = now, grid.detach().cpu().clone(), done, 0
            else:
                waited += 1
    return Refined(kept, before, best, taken, len(held_out))


def _packs(prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[Pack]:
    """All examples, in as many packs as it takes."""
    return [
        pack_examples([prompts[i] for i in some], [answers[i] for i in some], UNLIMITED)
        for some in in_packs(prompts, answers, _HELD_OUT_TOKENS)
    ]


def _right(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    prompts: Sequence[Prompt],
    right: Sequence[str],
    comparison: Comparison,
    form: AnswerForm | None,
) -> float:
    """Share of the prompts that are answered right, in a form."""
    most = max(map(len, base.chat.answer_ids(right))) + _SLACK
    given = answers(
        base.model,
        base.chat,
        prompts,
        layout=base.layout,
        grid=grid,
        form=form,
        max_new_tokens=most,
        report=silent,
    )
    return sum(map(comparison.score, given, right)) / len(right)


def random_order(examples: Sequence[T], seed: str) -> list[T]:
    """All examples, in an order that depends on the seed alone."""
    shuffled = list(examples)
    Random(seed).shuffle(shuffled)
    return shuffled


def judged(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"] | None,
    task: Task,
    examples: Sequence[Example],
    budget: int = _HELD_OUT_TOKENS,
) -> objectives.Answers:
    """Loss and teacher-forced exact match of one adapter, or of the base without any, on as many of the examples as the
    budget holds, in the full form."""
    return _judged(base, grid, sampling.make_pack(task, examples, base.chat, bare=False, budget=budget))


def _judged(base: Frozen, grid: Float[Tensor, "layers rows cols"] | None, pack: Pack) -> objectives.Answers:
    batch = stack([pack], base.chat.padding).to(base.model.device)
    adapters = None if grid is None else grid[None].to(base.model.device)
    return objectives.end_to_end(base.model, base.layout, adapters, batch)
