"""Prompts -> answers by batched decoding, greedy or sampled, with or without an adapter.

In: a base model, prompts, optionally one adapter and the form that answers have. Out: one text per prompt. What all
prompts of a batch begin with (system text, instruction) is computed once; finished sequences leave the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.constraints import Matcher
from prompt2lora.base.packing import common_length
from prompt2lora.base.pictures import positions
from prompt2lora.base.sampling import Sampling, drawn
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.progress import Report, part, tell

BATCH = 64
_TOKENS = 32_000  # of all prompts of a batch, with padding; a longer prompt is a batch of its own


@torch.inference_mode()
def answers(
    model: Any,
    chat: ChatFormat,
    prompts: Sequence[Prompt],
    *,
    examples: Sequence[tuple[Prompt, str]] = (),
    layout: LoraLayout | None = None,
    grid: Float[Tensor, "layers rows cols"] | None = None,
    form: AnswerForm | None = None,
    max_new_tokens: int = 64,
    sampling: Sampling | None = None,
    report: Report = tell,
) -> list[str]:
    """Answers of at most `max_new_tokens` tokens, greedy without `sampling`; with `grid` through that adapter, with
    `form` of that form.

    `examples` are (prompt, answer) turns that stand before every prompt. Raises UsageError if one does not fit.
    """
    given = scored_answers(
        model,
        chat,
        prompts,
        examples=examples,
        layout=layout,
        grid=grid,
        form=form,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        report=report,
    )
    return [answer.text for answer in given]


class ScoredAnswer(NamedTuple):
    """An answer with the log-probability of each of its tokens, and of its end, among those that its form allows."""

    text: str
    log_probabilities: list[float]
    cut: bool = False  # whether it went on when there was no more room for it

    @property
    def confidence(self) -> float:
        return confidence(self.log_probabilities)


def confidence(log_probabilities: Sequence[float]) -> float:
    """How likely a whole answer was, from 0 to 1, among all answers of its form."""
    return math.exp(sum(log_probabilities))


@torch.inference_mode()
def scored_answers(
    model: Any,
    chat: ChatFormat,
    prompts: Sequence[Prompt],
    *,
    examples: Sequence[tuple[Prompt, str]] = (),
    layout: LoraLayout | None = None,
    grid: Float[Tensor, "layers rows cols"] | None = None,
    form: AnswerForm | None = None,
    max_new_tokens: int = 64,
    scored: bool = False,
    sampling: Sampling | None = None,
    report: Report = tell,
) -> list[ScoredAnswer]:
    """The same answers; with `scored`, their log-probabilities too."""
    ids = chat.prompt_ids(prompts, examples)
    models.check_room(model.config, ids)
    found: dict[int, _Written] = {}
    randoms = sampling.generators(len(ids)) if sampling else []
    context = adapted(model, grid[None], layout) if grid is not None and layout is not None else nullcontext()
    with context:
        for chosen in _batches([len(sequence) for sequence in ids]):
            with part(report, len(found) / len(ids), (len(found) + len(chosen)) / len(ids)):
                drawing = (sampling, [randoms[i] for i in chosen]) if sampling else None
                asked = [ids[i] for i in chosen]
                written = _decode(model, asked, chat, max_new_tokens, form, scored=scored, drawing=drawing)
            found.update(zip(chosen, written, strict=True))
    texts = [chat.tokenizer.decode(found[i].ids, skip_special_tokens=True).strip() for i in range(len(ids))]
    return [ScoredAnswer(text, found[i].log_probabilities, found[i].cut) for i, text in enumerate(texts)]


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of prompts of such lengths, the shortest first, batch by batch."""
    batches: list[list[int]] = [[]]
    for one in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        count = len(batches[-1])
        if count == BATCH or (count and (count + 1) * lengths[one] > _TOKENS):
            batches.append([])
        batches[-1].append(one)
    return batches if lengths else []


@dataclass
class _Written:
    matcher: Matcher | None
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    cut: bool = True  # until its end comes


def _decode(
    model: Any,
    ids: list[list[int]],
    chat: ChatFormat,
    max_new_tokens: int,
    form: AnswerForm | None,
    *,
    scored: bool = False,
    drawing: tuple[Sampling, list[torch.Generator]] | None = None,
) -> list[_Written]:
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
        opening = ids[0][:shared]
        known = torch.tensor([opening], device=device), torch.tensor([positions(opening)[:-1]], device=device)
        model(input_ids=known[0], position_ids=known[1], past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(len(ids))
    tokens, mask, places = (tensor.to(device) for tensor in _padded_tails(ids, shared, chat.ends[0]))
    written = [_Written(chat.constraints.begin(form) if form else None) for _ in ids]
    active = list(range(len(ids)))
    for step in range(max_new_tokens):
        tell({"share": max(step / max_new_tokens, 1 - len(active) / len(ids))})
        logits = model(
            input_ids=tokens, attention_mask=mask, position_ids=places, past_key_values=cache, logits_to_keep=1
        ).logits[:, -1]
        if form:
            _hold(logits, [written[one].matcher for one in active])
        picked = logits.argmax(-1)
        if drawing:
            how, randoms = drawing
            one_each = zip(logits, active, strict=True)
            tokens_drawn = [drawn(row, how.temperature, how.top_p, randoms[one]) for row, one in one_each]
            picked = torch.tensor(tokens_drawn, device=device)
        if scored:
            likely = logits.float().log_softmax(-1).gather(1, picked[:, None])[:, 0].tolist()
            for sequence, one in zip(active, likely, strict=True):
                written[sequence].log_probabilities.append(one)
        ended = torch.isin(picked, ends).tolist()
        for sequence, token, end in zip(active, picked.tolist(), ended, strict=True):
            if not end:
                written[sequence].ids.append(token)
        if form:
            ended = [end or _follow(written[one]) for one, end in zip(active, ended, strict=True)]
        for sequence, end in zip(active, ended, strict=True):
            written[sequence].cut = not end
        going = [not end and len(written[one].ids) < room[one] for one, end in zip(active, ended, strict=True)]
        keep = torch.tensor(going, device=device).nonzero().flatten()
        if not len(keep):
            break
        if len(keep) < len(active):
            active = [active[i] for i in keep.tolist()]
            cache.batch_select_indices(keep)
            picked, mask, places = picked[keep], mask[keep], places[keep]
        tokens = picked[:, None]
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
        places = places[:, -1:] + 1
    return written


def _hold(logits: Float[Tensor, "active vocabulary"], matchers: Sequence[Matcher | None]) -> None:
    """Leave of every row of logits those of tokens that its answer's form allows."""
    for row, matcher in zip(logits, matchers, strict=True):
        assert matcher is not None
        row.masked_fill_(~matcher.mask(len(row)).to(row.device), -math.inf)


def _follow(written: _Written) -> bool:
    """Whether an answer is complete with its latest token."""
    assert written.matcher is not None
    written.matcher.accept(written.ids[-1])
    return written.matcher.complete


def _padded_tails(
    ids: Sequence[list[int]], shared: int, padding: int
) -> tuple[Int[Tensor, "batch width"], Int[Tensor, "batch {shared}+width"], Int[Tensor, "batch width"]]:
    """What follows the shared beginning, padded on the left; which tokens of beginning and tail are real; where the
    tokens that follow stand."""
    tails = [sequence[shared:] for sequence in ids]
    width = max(map(len, tails))
    tokens = torch.tensor([[padding] * (width - len(tail)) + tail for tail in tails])
    mask = torch.ones(len(ids), shared + width, dtype=torch.long)
    for number, tail in enumerate(tails):
        mask[number, shared : shared + width - len(tail)] = 0
    places = [positions(sequence)[shared:-1] for sequence in ids]
    padded = torch.tensor([[0] * (width - len(place)) + place for place in places])
    return tokens, mask, padded
