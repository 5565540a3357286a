"""Rows of one task -> one packed sequence for the base model, computing nothing twice.

In: (prompt, answer) pairs. Out: token ids with positions, a mask and the places of the answers.
All rows of a pack share one adapter, so they can share their common beginning too: the system text
and the instruction stand once, every row's own tokens see them and themselves, and no other row.
The result equals that of separate sequences (a test). Rows fill a token budget, so that a batch of
packs has next to no padding, whatever the lengths of the tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SHARED, _PADDING = -1, -2
UNLIMITED = 1 << 20  # a budget that holds all rows


@dataclass(frozen=True)
class Pack:
    """ids, positions and rows have the length of the sequence; rows is -1 where all rows share a token.

    `predict` are the places whose next token is `labels`; `answer` says to which row each belongs. `used` are the
    indices of the rows that found room.
    """

    ids: list[int]
    positions: list[int]
    rows: list[int]
    predict: list[int]
    labels: list[int]
    answer: list[int]
    used: list[int]


def pack_rows(prompts: Sequence[list[int]], answers: Sequence[list[int]], budget: int) -> Pack:
    """Pack as many rows as fit into `budget` tokens, in order, at least one (the shortest if none fits)."""
    fits = [i for i in range(len(prompts)) if len(prompts[i]) + len(answers[i]) <= budget]
    chosen = fits or [min(range(len(prompts)), key=lambda i: len(prompts[i]) + len(answers[i]))]
    shared = common_length([prompts[i] for i in chosen])
    pack = Pack(list(prompts[chosen[0]][:shared]), list(range(shared)), [SHARED] * shared, [], [], [], [])
    for row, i in enumerate(chosen):
        own = [*prompts[i][shared:], *answers[i][:-1]]
        if row and len(pack.ids) + len(own) > budget:
            break
        pack.used.append(i)
        last = len(pack.ids) + len(prompts[i]) - shared - 1
        pack.predict.extend(range(last, last + len(answers[i])))
        pack.labels.extend(answers[i])
        pack.answer.extend([row] * len(answers[i]))
        pack.ids.extend(own)
        pack.positions.extend(range(shared, shared + len(own)))
        pack.rows.extend([row] * len(own))
    return pack


@dataclass(frozen=True)
class PackBatch:
    ids: Int[Tensor, "batch length"]
    positions: Int[Tensor, "batch length"]
    visible: Bool[Tensor, "batch 1 length length"]
    place: Int[Tensor, "answers 2"]  # (pack, position) of every answer token's prediction
    labels: Int[Tensor, " answers"]
    answer: Int[Tensor, " answers"]  # row of the pack

    def additive_mask(self, dtype: torch.dtype) -> Float[Tensor, "batch 1 length length"]:
        """What the base's attention adds: nothing where it may look, the least number elsewhere."""
        mask = torch.zeros(self.visible.shape, dtype=dtype, device=self.visible.device)
        return mask.masked_fill_(~self.visible, torch.finfo(dtype).min)

    def to(self, device: str | torch.device) -> PackBatch:
        return PackBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def stack(packs: Sequence[Pack], padding: int) -> PackBatch:
    length = max(len(pack.ids) for pack in packs)

    def padded(field: str, filler: int) -> Tensor:
        return torch.tensor([getattr(p, field) + [filler] * (length - len(p.ids)) for p in packs])

    rows = padded("rows", _PADDING)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = (rows[:, None, :] == rows[:, :, None]) | (rows == SHARED)[:, None, :]
    place = [(index, position) for index, pack in enumerate(packs) for position in pack.predict]
    return PackBatch(
        ids=padded("ids", padding),
        positions=padded("positions", 0),
        visible=(causal & same)[:, None],
        place=torch.tensor(place),
        labels=torch.tensor([label for pack in packs for label in pack.labels]),
        answer=torch.tensor([row for pack in packs for row in pack.answer]),
    )


def common_length(prompts: Sequence[list[int]]) -> int:
    """Length of the common beginning; every prompt keeps at least one token of its own."""
    length = min(map(len, prompts)) - 1
    for at in range(length):
        if len({prompt[at] for prompt in prompts}) > 1:
            return at
    return length
