"""Multiple choice by likelihood: which option does the base find most probable, with or without an adapter?

In: prompts with their options. Out: log probabilities. Small models bind option letters badly, so that what they would
write says little of what they know; what they find likely says more. A prompt is computed once for all its options.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.packing import UNLIMITED, pack_examples, stack
from prompt2lora.ground.progress import tell

_BATCH, _LABELS = 16, 640  # prompts, and tokens of options, that are computed at once

Asked = tuple[list[int], list[list[int]]]  # token ids of a prompt, and of the texts that may follow it


def option_scores(
    base: Frozen,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
    grid: Float[Tensor, "layers rows cols"] | None = None,
    *,
    examples: Sequence[tuple[str, str]] = (),
) -> list[Float[Tensor, "options 2"]]:
    """Per prompt, for every option as a whole answer: the log probability of its text, and the same per token.

    `examples` are (prompt, answer) turns that stand before every prompt.
    """
    ids = base.chat.prompt_ids(prompts, examples)
    asked = [(one, base.chat.answer_ids(texts)) for one, texts in zip(ids, options, strict=True)]
    return continuation_scores(base, asked, grid)


@torch.inference_mode()
def continuation_scores(
    base: Frozen, asked: Sequence[Asked], grid: Float[Tensor, "layers rows cols"] | None = None
) -> list[Float[Tensor, "options 2"]]:
    """Per prompt, for everything that may follow: its log probability, and the same per token."""
    models.check_room(base.model.config, [ids for ids, _ in asked])
    found: list[Tensor] = []
    for group in _groups(asked):
        tell({"done": len(found), "of": len(asked)})
        packs = [pack_examples([ids] * len(texts), texts, UNLIMITED) for ids, texts in group]
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


def _groups(asked: Sequence[Asked]) -> Iterator[list[Asked]]:
    """In order, as many at once as a batch holds, at least one."""
    group: list[Asked] = []
    labels = 0
    for one in asked:
        new = sum(map(len, one[1]))
        if group and (len(group) == _BATCH or labels + new > _LABELS):
            yield group
            group, labels = [], 0
        group.append(one)
        labels += new
    if group:
        yield group


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
