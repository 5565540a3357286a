"""A few right answers go into the weights: least squares on what the base makes of them as a context, then a few steps.

In: a base, an adapter, prompts of a job, some with the right answer (examples). Out: a new adapter, which answers the
inputs alone. First as in alignment.py: a teacher reads the instruction, examples as earlier turns and an input, the
student the input alone, and layer after layer the output projections of the attention are moved to where the teacher's
are. What an example teaches is read after other examples than itself, with its right answer forced (leaving it out
matters: Context Tuning, arXiv 2507.04221). Then a few steps of Adam on the right answers: the context has brought the
adapter near them (as IA2 does before fine-tuning, arXiv 2509.22621), so that few are enough. It knows no tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.packing import UNLIMITED, PackBatch, pack_examples, stack
from prompt2lora.generator.alignment import align
from prompt2lora.generator.observation import observe
from prompt2lora.ground.prompts import full_prompt, instruction_of


@dataclass(frozen=True)
class ExampleOptions:
    """read           how many examples the least squares are found on
    folds          groups of them, each read after the others
    context        tokens that the examples of one context may take
    answers        weight of the places of an answer; other places have 1
    ridge          penalty, as a share of the mean square of what the projections get
    budget         tokens of a step; what does not fit into one is asked by the next
    least          gradient steps at least
    epochs         times that every example is asked with the instruction, and as often without, if there are more
    learning_rate  highest rate, of Adam, before a linear decay
    """

    read: int = 8
    folds: int = 4
    context: int = 384
    answers: float = 4.0
    ridge: float = 0.1
    budget: int = 512
    least: int = 4
    epochs: int = 2
    learning_rate: float = 1e-3


class _Example(NamedTuple):
    input: str
    output: str


@torch.no_grad()
def taught(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    prompts: Sequence[str],
    examples: Sequence[tuple[str, str]],
    options: ExampleOptions = ExampleOptions(),
) -> Float[Tensor, "layers rows cols"]:
    """A new grid; the given one is left alone. Examples are (prompt, right answer); their order changes nothing.

    For the instruction see `instruction_to_teach`; it may stand in the examples or not.
    """
    instruction = instruction_to_teach(prompts, examples)
    known = sorted({_Example(_input(prompt, instruction), answer) for prompt, answer in examples}, key=_digest)
    made = grid.to(base.model.device).clone()
    _put(base, made, instruction, known[: options.read], options)
    return _practised(base, made, _batches(base.chat, instruction, known, options.budget), options).cpu()


def instruction_to_teach(prompts: Sequence[str], examples: Sequence[tuple[str, str]]) -> str:
    """What the prompts open with, or else those of the examples; empty if they share no instruction."""
    return instruction_of(prompts) or instruction_of([prompt for prompt, _ in examples])


def _input(prompt: str, instruction: str) -> str:
    """A prompt without the instruction, if it opens with it."""
    return prompt.strip().removeprefix(instruction).strip() or prompt.strip()


def _digest(example: _Example) -> bytes:
    return hashlib.sha256("\0".join(example).encode()).digest()


def _put(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    instruction: str,
    examples: Sequence[_Example],
    options: ExampleOptions,
) -> None:
    """Least squares on every example as it is read after those of other folds; written into the grid."""
    chat = base.chat
    folds = [examples[at :: options.folds] for at in range(min(options.folds, len(examples)))]
    answers = [chat.answer_ids([one.output for one in fold]) for fold in folds]
    wholes = []
    for fold, fold_answers in zip(folds, answers, strict=True):
        asked = {one.input for one in fold}
        turns = _turns(chat, [one for one in examples if one.input not in asked], instruction, options.context)
        told = [one.input if turns else full_prompt(instruction, one.input) for one in fold]
        wholes.append(pack_examples(chat.prompt_ids(told, turns), fold_answers, UNLIMITED))
    inputs = chat.prompt_ids([one.input for fold in folds for one in fold])
    inner = pack_examples(inputs, [answer for fold in answers for answer in fold], UNLIMITED)
    align(base, grid, observe(base, grid, wholes), inner, answers=options.answers, ridge=options.ridge)


def _turns(chat: ChatFormat, examples: Sequence[_Example], instruction: str, room: int) -> list[tuple[str, str]]:
    """As many examples as find room as turns of a conversation, the first of which says what is asked."""
    turns = [(one.input if at else full_prompt(instruction, one.input), one.output) for at, one in enumerate(examples)]
    return chat.turns_within(turns, room)


def _batches(chat: ChatFormat, instruction: str, examples: Sequence[_Example], budget: int) -> list[PackBatch]:
    """All examples as questions with their right answers, in batches of about `budget` tokens.

    If there is an instruction, half of every batch is asked with it, and the next batch asks the other half so: the
    adapter shall do with it what it does without.
    """
    answers = chat.answer_ids([one.output for one in examples])
    bare = chat.prompt_ids([one.input for one in examples])
    told = chat.prompt_ids([full_prompt(instruction, one.input) for one in examples])
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


def _practised(
    base: Frozen, grid: Float[Tensor, "layers rows cols"], batches: Sequence[PackBatch], options: ExampleOptions
) -> Float[Tensor, "layers rows cols"]:
    """The grid after a few steps of Adam on the right answers, one batch a step in turn."""
    batches = [batch.to(base.model.device) for batch in batches]
    steps = max(options.least, options.epochs * len(batches))
    with torch.enable_grad():
        made = grid.clone().requires_grad_()
        optimiser = torch.optim.Adam([made], lr=options.learning_rate)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * min(1.0, 2 * (1 - (step + 1) / (steps + 1)) + 0.05)
            loss = _loss(base, made, batches[step % len(batches)])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([made], 1.0)
            optimiser.step()
    return made.detach()


def _loss(base: Frozen, grid: Float[Tensor, "layers rows cols"], batch: PackBatch) -> Float[Tensor, ""]:
    """Mean loss of the adapted base over the tokens of the answers."""
    logits = answer_logits(base.model, base.layout, grid[None], batch)
    return torch.nn.functional.cross_entropy(logits, batch.labels)
