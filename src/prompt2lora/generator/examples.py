"""A few right answers go into the weights: a few steps of gradient descent from an adapter that is made for it.

In: a base, an adapter to begin with, prompts of a job, some with the right answer (examples). Out: a new adapter, which
answers the inputs alone. Where it begins matters more than how it goes on: an adapter that was trained to answer after
examples (MetaICL, arXiv 2110.15943) is so near to every job that a few steps reach what a LoRA from scratch needs
dozens of steps for (docs/log.md, with what was tried beside it). It knows no tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.models import check_room
from prompt2lora.base.packing import UNLIMITED, Pack, in_packs, pack_examples, stack
from prompt2lora.ground.comparison import composed
from prompt2lora.ground.pictures import Prompt, identity, rewritten
from prompt2lora.ground.progress import tell
from prompt2lora.ground.prompts import full_prompt, input_of, instruction_of


@dataclass(frozen=True)
class ExampleOptions:
    """budget         tokens of a step; what does not fit into one is asked by the next
    steps          gradient steps; 0: half as many as there are examples, but at least `least` and at most `most`, or
                   as many as it takes to ask every example once
    learning_rate  highest rate, of Adam, before a linear decay
    """

    budget: int = 512
    steps: int = 0
    least: int = 4
    most: int = 12
    learning_rate: float = 1e-3


class Labelled(NamedTuple):
    """A job's examples (prompt, right answer) and its instruction, which may stand in the prompts or not."""

    instruction: str
    examples: Sequence[tuple[Prompt, str]]


class _Example(NamedTuple):
    input: Prompt
    output: str


def taught(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    prompts: Sequence[Prompt],
    examples: Sequence[tuple[Prompt, str]],
    options: ExampleOptions = ExampleOptions(),
) -> Float[Tensor, "layers rows cols"]:
    """A new grid; the given one is left alone. Examples are (prompt, right answer); their order changes nothing.
    Raises UsageError for one that is too long for the base.

    For the instruction see `instruction_of`; it may stand in the examples or not.
    """
    made = grid.to(base.model.device).clone().requires_grad_()
    for _ in practice(base, [made], [Labelled(instruction_of(prompts, examples), examples)], options):
        pass
    return made.detach().cpu()


def practice(
    base: Frozen,
    grids: Sequence[Float[Tensor, "layers rows cols"]],
    jobs: Sequence[Labelled],
    options: ExampleOptions,
) -> Iterator[float]:
    """Train a grid of each job in place on all its examples in turn, half of them with the instruction; gives the sum
    of the losses of every step. Jobs go side by side to share the reading of the base, and change nothing for another.
    """
    known = [_known(job) for job in jobs]
    for job, some in zip(jobs, known, strict=True):
        check_examples(base, job.instruction, some)
    asking = [_turns(base.chat, job.instruction, some, options.budget) for job, some in zip(jobs, known, strict=True)]
    planned = min(options.most, max(options.least, max(map(len, known)) // 2))
    steps = options.steps or max(planned, *(len(first) for first, _ in asking))
    every = [first + again for first, again in asking]

    def loss(step: int) -> Float[Tensor, ""]:
        asked = [turns[(step - 1) % len(turns)] for turns in every]
        owner = [job for job, packs in enumerate(asked) for _ in packs]
        batch = stack([pack for packs in asked for pack in packs], base.chat.padding).to(grids[0].device)
        adapters = torch.stack([grids[job] for job in owner]) if len(jobs) > 1 else grids[0][None]
        logits = answer_logits(base.model, base.layout, adapters, batch)
        whose = torch.tensor(owner, device=logits.device)[batch.place[:, 0]]
        losses = [
            torch.nn.functional.cross_entropy(logits[whose == job], batch.labels[whose == job])
            for job in range(len(jobs))
        ]
        return torch.stack(losses).sum()

    return descend(grids, steps, options.learning_rate, loss, apart=True)


def descend(
    weights: Sequence[Float[Tensor, "*_"]],
    steps: int,
    learning_rate: float,
    loss: Callable[[int], Float[Tensor, ""]],
    *,
    warmup: int = 1,
    apart: bool = False,
) -> Iterator[float]:
    """Train weights in place by Adam on the loss of every step, counted from 1; gives that loss.

    The rate rises for `warmup` steps and falls over the second half. Gradients longer than 1 are shortened: those of
    all weights together or, where the weights have nothing to do with one another (`apart`), each by itself.
    """
    optimiser = torch.optim.Adam(weights, lr=learning_rate)
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, step / warmup, 2 * (1 - step / (steps + 1)) + 0.05)
        found = loss(step)
        optimiser.zero_grad(set_to_none=True)
        found.backward()  # type: ignore[no-untyped-call]
        for together in [[weight] for weight in weights] if apart else [weights]:
            torch.nn.utils.clip_grad_norm_(together, 1.0)
        optimiser.step()
        tell({"done": step, "of": steps})
        yield float(found.detach())


def _known(job: Labelled) -> list[_Example]:
    """Different examples in an order that depends on nothing but them."""
    known = {
        _Example(rewritten(prompt, lambda text: input_of(text, job.instruction)), composed(right))
        for prompt, right in job.examples
    }
    return sorted(known, key=_digest)


def _digest(example: _Example) -> bytes:
    return hashlib.sha256("\0".join([identity(example.input), example.output]).encode()).digest()


def check_examples(base: Frozen, instruction: str, examples: Sequence[tuple[Prompt, str]]) -> None:
    """Raises UsageError for an example (input, right answer) that the base cannot read with its instruction."""
    prompts = base.chat.prompt_ids([rewritten(one, lambda text: full_prompt(instruction, text)) for one, _ in examples])
    answers = base.chat.answer_ids([right for _, right in examples])
    check_room(base.model.config, [[*prompt, *right[:-1]] for prompt, right in zip(prompts, answers, strict=True)])


def _turns(
    chat: ChatFormat, instruction: str, examples: Sequence[_Example], budget: int
) -> tuple[list[list[Pack]], list[list[Pack]]]:
    """All examples as questions with their right answers: the packs of every step in turn, of about `budget` tokens,
    and those of further steps.

    If there is an instruction, half of what a step asks is asked with it, and the next step asks the other half so: the
    adapter shall do with it what it does without. Examples that fill a step each are asked alternately with it and
    without, and in the further steps the other way; so is a single one.
    """
    answers = chat.answer_ids([one.output for one in examples])
    bare = chat.prompt_ids([one.input for one in examples])
    told = chat.prompt_ids([rewritten(one.input, lambda text: full_prompt(instruction, text)) for one in examples])
    first, again = list[list[Pack]](), list[list[Pack]]()
    for chosen in in_packs(told, answers, budget):
        halves = [part for part in (chosen[::2], chosen[1::2]) if part] if instruction else [chosen]
        fills = 2 * len(told[chosen[0]] + answers[chosen[0]]) > budget
        if instruction and len(chosen) == 1 and (fills or len(examples) == 1):
            both = [[pack_examples([asked[chosen[0]]], [answers[chosen[0]]], UNLIMITED)] for asked in (bare, told)]
            form = len(again) % 2
            first.append(both[form])
            again.append(both[1 - form])
            continue
        for turn in range(len(halves)):
            packs = [
                pack_examples([asked[i] for i in part], [answers[i] for i in part], UNLIMITED)
                for asked, part in zip((bare, told), halves[turn:] + halves[:turn], strict=False)
            ]
            first.append(packs)
    return first, again
