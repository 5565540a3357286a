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
from prompt2lora.base.packing import UNLIMITED, PackBatch, pack_examples, stack
from prompt2lora.ground.comparison import composed
from prompt2lora.ground.pictures import Prompt, identity, rewritten
from prompt2lora.ground.progress import tell
from prompt2lora.ground.prompts import full_prompt, input_of, instruction_of


@dataclass(frozen=True)
class ExampleOptions:
    """budget         tokens of a step; what does not fit into one is asked by the next
    steps          gradient steps; 0: half as many as there are examples, but at least `least` and at most `most`
    learning_rate  highest rate, of Adam, before a linear decay
    """

    budget: int = 512
    steps: int = 0
    least: int = 4
    most: int = 12
    learning_rate: float = 1e-3


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

    For the instruction see `instruction_of`; it may stand in the examples or not.
    """
    made = grid.to(base.model.device).clone().requires_grad_()
    for _ in practice(base, made, instruction_of(prompts, examples), examples, options):
        pass
    return made.detach().cpu()


def practice(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    instruction: str,
    examples: Sequence[tuple[Prompt, str]],
    options: ExampleOptions,
) -> Iterator[float]:
    """Train `grid` in place on all examples in turn, half of them with the instruction; gives every step's loss."""
    known = sorted(
        {
            _Example(rewritten(prompt, lambda text: input_of(text, instruction)), composed(right))
            for prompt, right in examples
        },
        key=_digest,
    )
    batches = [batch.to(grid.device) for batch in _batches(base.chat, instruction, known, options.budget)]
    steps = options.steps or min(options.most, max(options.least, len(known) // 2))

    def loss(step: int) -> Float[Tensor, ""]:
        batch = batches[(step - 1) % len(batches)]
        return torch.nn.functional.cross_entropy(
            answer_logits(base.model, base.layout, grid[None], batch), batch.labels
        )

    return descend([grid], steps, options.learning_rate, loss)


def descend(
    weights: Sequence[Float[Tensor, "*_"]],
    steps: int,
    learning_rate: float,
    loss: Callable[[int], Float[Tensor, ""]],
    *,
    warmup: int = 1,
) -> Iterator[float]:
    """Train weights in place by Adam on the loss of every step, counted from 1; gives that loss.

    The rate rises for `warmup` steps and falls over the second half.
    """
    optimiser = torch.optim.Adam(weights, lr=learning_rate)
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, step / warmup, 2 * (1 - step / (steps + 1)) + 0.05)
        found = loss(step)
        optimiser.zero_grad(set_to_none=True)
        found.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        tell({"done": step, "of": steps})
        yield float(found.detach())


def _digest(example: _Example) -> bytes:
    return hashlib.sha256("\0".join([identity(example.input), example.output]).encode()).digest()


def _batches(chat: ChatFormat, instruction: str, examples: Sequence[_Example], budget: int) -> list[PackBatch]:
    """All examples as questions with their right answers, in batches of about `budget` tokens.

    If there is an instruction, half of every batch is asked with it, and the next batch asks the other half so: the
    adapter shall do with it what it does without.
    """
    answers = chat.answer_ids([one.output for one in examples])
    bare = chat.prompt_ids([one.input for one in examples])
    told = chat.prompt_ids([rewritten(one.input, lambda text: full_prompt(instruction, text)) for one in examples])
    batches, rest = [], list(range(len(examples)))
    while rest:
        used = pack_examples([told[i] for i in rest], [answers[i] for i in rest], budget).used
        chosen = [rest[at] for at in used]
        rest = [i for at, i in enumerate(rest) if at not in used]
        halves = [part for part in (chosen[::2], chosen[1::2]) if part] if instruction else [chosen]
        for turn in range(len(halves)):
            packs = [
                pack_examples([asked[i] for i in part], [answers[i] for i in part], UNLIMITED)
                for asked, part in zip((bare, told), halves[turn:] + halves[:turn], strict=False)
            ]
            batches.append(stack(packs, chat.padding))
    return batches
