"""Context distillation: an adapter learns to do without the instruction what it does with it. It needs no labels.

In: a base, an adapter, a job's instruction and inputs. Out: the adapter after a few steps on its own answers: the base
answers the prompts through it, instruction and all, and it is fine-tuned to give the same answers, token by token as
likely, to the inputs alone (Askell et al. 2021, arXiv 2112.00861; Snell et al. 2022, arXiv 2209.15189).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.evaluation.decoding import answers
from prompt2lora.generator.making import Distillation
from prompt2lora.generator.reading import Frozen, Reader
from prompt2lora.packs import UNLIMITED, stack
from prompt2lora.progress import Report, silent
from prompt2lora.prompts import instruction_to_leave_out, split
from prompt2lora.training import objectives, pairs
from prompt2lora.training.tasks import Row, Task, full_prompt
from prompt2lora.training.tuning import TuningOptions, descend

OPTIONS = TuningOptions(steps=12, budget=256)
_KEEP = 3  # every so many steps the full form is rehearsed, so that it stays as it was


def on_prompts(reader: Reader, prompts: Sequence[str], steps: int, report: Report = silent) -> Distillation | None:
    """The distillation of an adapter made from these prompts; none for no steps. Raises UsageError."""
    if not steps:
        return None
    instruction, inputs = instruction_to_leave_out(prompts), [split(prompt)[1] for prompt in prompts]
    options = replace(OPTIONS, steps=steps)
    return Distillation(steps, lambda grid: distil(reader.base, grid, instruction, inputs, options, report))


def distil(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    instruction: str,
    inputs: Sequence[str],
    options: TuningOptions = OPTIONS,
    report: Report = silent,
) -> Float[Tensor, "layers rows cols"]:
    """A new grid, from as many of the inputs as the budget of tokens holds; the given one is left alone."""
    model, chat, layout = base
    prompts = [full_prompt(instruction, text) for text in inputs]
    given = answers(model, chat, prompts, layout=layout, grid=grid)
    rows = [Row(*pair) for pair in zip(inputs, given, strict=True)]
    task = Task("distilled", instruction, "", "", tuple(rows), ())
    whole = pairs.make_pack(task, rows, chat, bare=False, budget=options.budget)
    inner = pairs.make_pack(task, [rows[i] for i in whole.used], chat, bare=True, budget=UNLIMITED)
    told, untold = (stack([pack], chat.padding).to(model.device) for pack in (whole, inner))
    taught = grid.to(model.device).clone()
    with torch.no_grad():
        target = objectives.answer_logits(model, layout, taught[None], told)
    taught.requires_grad_()

    def loss(step: int) -> Tensor:
        asked = told if step % _KEEP == 0 else untold
        return objectives.distillation(
            objectives.answer_logits(model, layout, taught[None], asked), target, asked
        ).mean()

    for step, _ in enumerate(descend(taught, options, loss), 1):
        report({"done": step, "of": options.steps})
    return taught.detach().cpu()
