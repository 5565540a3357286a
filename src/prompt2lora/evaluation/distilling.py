"""Context distillation: an adapter learns to do without the instruction what it does with it. It needs no labels.

In: a base, an adapter, a job's instruction and inputs. Out: the adapter after a few steps on its own answers: the base
answers every prompt through it, instruction and all, and it is fine-tuned to give the same answers to the inputs alone
(Askell et al. 2021, arXiv 2112.00861; Snell et al. 2022, arXiv 2209.15189).
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from prompt2lora.evaluation.decoding import answers
from prompt2lora.generator.reading import Frozen
from prompt2lora.progress import Report, silent
from prompt2lora.training.tasks import Row, Task, full_prompt
from prompt2lora.training.tuning import TuningOptions, fit

OPTIONS = TuningOptions(steps=12, budget=256, bare=1.0)


def distil(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    instruction: str,
    inputs: Sequence[str],
    options: TuningOptions = OPTIONS,
    report: Report = silent,
) -> Float[Tensor, "layers rows cols"]:
    """A new grid; the given one is left alone."""
    prompts = [full_prompt(instruction, text) for text in inputs]
    given = answers(base.model, base.chat, prompts, layout=base.layout, grid=grid)
    rows = tuple(Row(*pair) for pair in zip(inputs, given, strict=True))
    return fit(base, Task("distilled", instruction, "", "", rows, ()), rows, options, start=grid, report=report)
