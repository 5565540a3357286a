"""Multiple choice by likelihood: which option does the base find most probable, with or without an adapter?

In: prompts with their options. Out: log probabilities. Small models bind option letters badly, so that what they would
write says little of what they know; what they find likely says more. A prompt is computed once for all its options.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.packing import UNLIMITED, pack_examples, stack
from prompt2lora.ground.progress import tell

_BATCH = 16


@torch.inference_mode()
def option_scores(
    base: Frozen,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
    grid: Float[Tensor, "layers rows cols"] | None = None,
) -> list[Float[Tensor, "options 2"]]:
    """Per prompt, for every option: the log probability of its text, and the same per token."""
    found: list[Tensor] = []
    for at in range(0, len(prompts), _BATCH):
        tell({"done": at, "of": len(prompts)})
        asked = list(zip(base.chat.prompt_ids(prompts[at : at + _BATCH]), options[at : at + _BATCH], strict=True))
        models.check_room(base.model.config, [ids for ids, _ in asked])
        packs = [pack_examples([ids] * len(texts), base.chat.answer_ids(texts), UNLIMITED) for ids, texts in asked]
        batch = stack(packs, base.chat.padding).to(base.model.device)
        adapters = None if grid is None else grid[None].to(base.model.device)
        logits = answer_logits(base.model, base.layout, adapters, batch)
        tokens = logits.log_softmax(-1).gather(1, batch.labels[:, None]).squeeze(1).cpu()
        option = batch.label_example.cpu()
        for index, pack in enumerate(packs):
            own = batch.place[:, 0].cpu() == index
            count = torch.bincount(option[own], minlength=len(pack.used))
            total = torch.zeros(len(pack.used)).index_add(0, option[own], tokens[own])
            found.append(torch.stack([total, total / count], dim=1))
    return found


def choices(
    base: Frozen,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
    grid: Float[Tensor, "layers rows cols"] | None = None,
    *,
    per_token: bool = False,
) -> list[int]:
    """The index of the most likely option of every prompt."""
    return [int(scores[:, int(per_token)].argmax()) for scores in option_scores(base, prompts, options, grid)]
