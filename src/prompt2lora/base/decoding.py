"""Prompts -> answers by batched greedy decoding, with or without an adapter.

In: a base model, prompts, optionally one adapter. Out: one text per prompt. What all prompts of a batch
begin with (system text, instruction) is computed once; finished sequences leave the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.packing import common_length
from prompt2lora.ground.progress import Report, silent

BATCH = 64


@torch.inference_mode()
def answers(
    model: Any,
    chat: ChatFormat,
    prompts: Sequence[str],
    *,
    examples: Sequence[tuple[str, str]] = (),
    layout: LoraLayout | None = None,
    grid: Float[Tensor, "layers rows cols"] | None = None,
    max_new_tokens: int = 64,
    report: Report = silent,
) -> list[str]:
    """Greedy answers of at most `max_new_tokens` tokens; with `grid` through that adapter.

    `examples` are (prompt, answer) turns that stand before every prompt. Raises UsageError if one does not fit.
    """
    ids = chat.prompt_ids(prompts, examples)
    models.check_room(model.config, ids)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found: dict[int, list[int]] = {}
    context = adapted(model, grid[None], layout) if grid is not None and layout is not None else nullcontext()
    with context:
        for at in range(0, len(order), BATCH):
            report({"done": at, "of": len(order)})
            chosen = order[at : at + BATCH]
            found.update(zip(chosen, greedy(model, [ids[i] for i in chosen], chat, max_new_tokens), strict=True))
    return [chat.tokenizer.decode(found[i], skip_special_tokens=True).strip() for i in range(len(ids))]


def greedy(model: Any, ids: list[list[int]], chat: ChatFormat, max_new_tokens: int) -> list[list[int]]:
    """The answers' token ids, without the token that ends them; none goes beyond the base's context."""
    from transformers import DynamicCache

    device, context = model.device, models.context_length(model.config)
    room = [min(max_new_tokens, context - len(sequence)) for sequence in ids]
    ends = torch.tensor(chat.ends, device=device)
    # Padding stands between the shared beginning and the rest, and a sliding window counts it: what does not fit
    # into the window of such a base is computed whole, with the padding before everything.
    window = getattr(model.config.get_text_config(), "sliding_window", None) or math.inf
    shared = common_length(ids) if max(map(len, ids)) + max_new_tokens <= window else 0
    cache = DynamicCache(config=model.config)
    if shared:
        model(input_ids=torch.tensor([ids[0][:shared]], device=device), past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(len(ids))
    tokens, mask = (tensor.to(device) for tensor in _padded_tails(ids, shared, chat.ends[0]))
    positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, shared:]
    written: list[list[int]] = [[] for _ in ids]
    active = list(range(len(ids)))
    for _ in range(max_new_tokens):
        logits = model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
        ).logits[:, -1]
        picked = logits.argmax(-1)
        ended = torch.isin(picked, ends).tolist()
        for sequence, token, end in zip(active, picked.tolist(), ended, strict=True):
            if not end:
                written[sequence].append(token)
        going = [not end and len(written[one]) < room[one] for one, end in zip(active, ended, strict=True)]
        keep = torch.tensor(going, device=device).nonzero().flatten()
        if not len(keep):
            break
        if len(keep) < len(active):
            active = [active[i] for i in keep.tolist()]
            cache.batch_select_indices(keep)
            picked, mask, positions = picked[keep], mask[keep], positions[keep]
        tokens = picked[:, None]
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return written


def _padded_tails(
    ids: Sequence[list[int]], shared: int, padding: int
) -> tuple[Int[Tensor, "batch width"], Int[Tensor, "batch {shared}+width"]]:
    """What follows the shared beginning, padded on the left; and which tokens of beginning and tail are real."""
    tails = [sequence[shared:] for sequence in ids]
    width = max(map(len, tails))
    tokens = torch.tensor([[padding] * (width - len(tail)) + tail for tail in tails])
    mask = torch.ones(len(ids), shared + width, dtype=torch.long)
    for number, tail in enumerate(tails):
        mask[number, shared : shared + width - len(tail)] = 0
    return tokens, mask
