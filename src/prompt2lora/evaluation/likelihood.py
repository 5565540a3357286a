"""Multiple choice by likelihood: which option does the base find most probable, with or without an adapter?

In: prompts with their options. Out: log probabilities, and what the base would write itself as far as that is one of
the options. Small models bind option letters badly, so that what they would write says little of what they know; what
they find likely says more. What prompts and options have in common is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.base import models
from prompt2lora.base.forest import Forest, Reader
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import common_length
from prompt2lora.ground.progress import tell

_TOKENS, _LOGITS = 512, 128  # that are read at once; places whose logits are computed at once

Asked = tuple[list[int], list[list[int]]]  # token ids of a prompt, and of the texts that may follow it


class Read(NamedTuple):
    """What the base says of one prompt.

    scores   of everything that may follow: its log probability, and the same per token
    written  the tokens that the base itself would write, up to the first one that follows in none of the texts
    """

    scores: Float[Tensor, "options 2"]
    written: list[int]


def option_scores(
    base: Frozen,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
    grid: Float[Tensor, "layers rows cols"] | None = None,
) -> list[Float[Tensor, "options 2"]]:
    """Per prompt, for every option as a whole answer: the log probability of its text, and the same per token."""
    return [one.scores for one in read_options(Reader(base, grid), prompts, options)]


def read_options(
    reader: Reader,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
    *,
    examples: Sequence[tuple[str, str]] = (),
) -> list[Read]:
    """Every option as a whole answer to its prompt, `examples` standing before every prompt."""
    chat = reader.base.chat
    ids = chat.prompt_ids(prompts, examples)
    return read(reader, [(one, chat.answer_ids(texts)) for one, texts in zip(ids, options, strict=True)])


@torch.inference_mode()
def read(reader: Reader, asked: Sequence[Asked]) -> list[Read]:
    """What the base says of prompts and of what may follow them. Raises UsageError for a prompt without room."""
    prompts = [ids for ids, _ in asked]
    models.check_room(reader.base.model.config, prompts)
    shared = common_length(prompts) if asked else 0
    found: list[Read] = []
    for group in _groups(asked, shared):
        tell({"done": len(found), "of": len(asked)})
        found += _read(reader, group, shared)
    return found


def _read(reader: Reader, asked: Sequence[Asked], shared: int) -> list[Read]:
    forest = Forest(asked[0][0][:shared])
    ends = [forest.add(ids[shared:])[-1] for ids, _ in asked]
    paths = [  # per prompt and text: where each of the text's tokens is predicted
        [[end, *forest.add(text[:-1], end)][: len(text)] for text in texts]
        for end, (_, texts) in zip(ends, asked, strict=True)
    ]
    following: dict[int, list[int]] = {}
    for nodes, (_, texts) in zip(paths, asked, strict=True):
        for path, text in zip(nodes, texts, strict=True):
            for node, token in zip(path, text, strict=True):
                following.setdefault(node, []).append(token)
    likely, best = _predicted(reader, forest, following)
    found = []
    for end, nodes, (ids, texts) in zip(ends, paths, asked, strict=True):
        totals = [sum(likely[step] for step in zip(*pair, strict=True)) for pair in zip(nodes, texts, strict=True)]
        scores = [[total, total / max(1, len(text))] for total, text in zip(totals, texts, strict=True)]
        room = models.context_length(reader.base.model.config) - len(ids)
        found.append(Read(torch.tensor(scores), _written(reader, forest, best, end)[:room]))
    return found


def _predicted(
    reader: Reader, forest: Forest, following: dict[int, list[int]]
) -> tuple[dict[tuple[int, int], float], dict[int, int]]:
    """Log probabilities of the tokens that may follow nodes, by node and token; the likeliest of all by node."""
    states, head = reader.states(forest), reader.base.model.get_output_embeddings()
    likely: dict[tuple[int, int], float] = {}
    best: dict[int, int] = {}
    nodes = list(following)
    for at in range(0, len(nodes), _LOGITS):
        chosen = nodes[at : at + _LOGITS]
        steps = [(row, token) for row, node in enumerate(chosen) for token in following[node]]
        rows, tokens = (torch.tensor(part, device=states.device) for part in zip(*steps, strict=True))
        logits = head(states[chosen]).float()
        values = (logits[rows, tokens] - logits.logsumexp(-1)[rows]).tolist()
        likely |= {(chosen[row], token): value for (row, token), value in zip(steps, values, strict=True)}
        best |= dict(zip(chosen, logits.argmax(-1).tolist(), strict=True))
    return likely, best


def _written(reader: Reader, forest: Forest, best: dict[int, int], node: int | None) -> list[int]:
    """The likeliest tokens from a node on, up to one that ends the answer, or that leads out of the forest."""
    written: list[int] = []
    while node in best and not (written and written[-1] in reader.base.chat.ends):
        written.append(best[node])
        node = forest.behind(node, written[-1])
    return written


def _groups(asked: Sequence[Asked], shared: int) -> Iterator[list[Asked]]:
    """In order, as many at once as are read at once, at least one."""
    group: list[Asked] = []
    tokens = 0
    for one in asked:
        new = len(one[0]) - shared + sum(len(text) - 1 for text in one[1])
        if group and tokens + new > _TOKENS:
            yield group
            group, tokens = [], 0
        group.append(one)
        tokens += new
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
