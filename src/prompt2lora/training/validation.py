"""What a generator in training is worth on tasks that it is not trained on.

In: held-out training tasks, a frozen base, a way to make weight grids of prompts. Out: loss and exact match by arm. An
arm is whose adapter answers (its own, one of another task's prompts, the shared one alone or after steps on labelled
examples) and the form of the model's prompt (full: with the instruction; bare: without). It changes no weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import stack
from prompt2lora.training import objectives, sampling
from prompt2lora.training.tasks import Task

ALONE, AFTER = "alone", "after"
ARMS = (f"{ALONE}_full", f"{AFTER}_bare", "own_full", "own_bare", "wrong_bare")
PRACTISED = 4  # labelled examples of a task that steps are taken on
PROMPTS = 16  # of every task, in the form that a user would give them in
_EXAMPLES = 24  # of every task's test part
_BUDGET = 256  # tokens of a task's examples
_TASKS = 8  # at once

GridsOf = Callable[[slice], Float[Tensor, "batch layers rows cols"]]  # of some of the tasks; one for all, or one each


@torch.no_grad()
def validate(
    base: Frozen, tasks: Sequence[Task], makers: Mapping[str, GridsOf], arms: Sequence[str]
) -> dict[str, float]:
    """Mean over the tasks, of every arm: exact match, and under `<arm>_loss` the loss.

    `makers` make whose adapters; arms of others are left out.
    """
    arms = [arm for arm in arms if _split(arm)[0] in makers]
    found: dict[str, list[float]] = {}
    for at in range(0, len(tasks), _TASKS):
        some = slice(at, at + _TASKS)
        made = {whose: makers[whose](some) for whose in sorted({_split(arm)[0] for arm in arms})}
        batches = {}
        for form in sorted({_split(arm)[1] for arm in arms}):
            packs = [
                sampling.make_pack(task, task.test[:_EXAMPLES], base.chat, bare=form == "bare", budget=_BUDGET)
                for task in tasks[some]
            ]
            batches[form] = stack(packs, base.chat.padding).to(base.model.device)
        for arm in arms:
            whose, form = _split(arm)
            answers = objectives.end_to_end(base.model, base.layout, made[whose], batches[form])
            found.setdefault(f"{arm}_loss", []).extend(answers.loss.tolist())
            found.setdefault(arm, []).extend(answers.exact.tolist())
    return {key: sum(values) / len(values) for key, values in found.items()}


def _split(arm: str) -> tuple[str, str]:
    whose, form = arm.split("_")
    return whose, form
