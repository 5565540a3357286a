"""Examples of one task -> one packed sequence for the base model, computing nothing twice.

In: token ids of prompts and answers. Out: token ids with positions, a mask and the places of the answers.
All examples of a pack share one adapter, so they can share their common beginning too: the system text
and the instruction stand once, every example's own tokens see them and themselves, and no other example.
The result equals that of separate sequences (a test). Examples fill a token budget, so that a batch of
packs, one sequence each, has next to no padding, whatever the lengths of the tasks. It knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from prompt2lora.base.attention import additive_masks
from prompt2lora.base.models import moved
from prompt2lora.base.pictures import positions

SHARED, _PADDING = -1, -2
UNLIMITED = 1 << 20  # a budget that holds all examples


@dataclass(frozen=True)
class Pack:
    """One sequence: ids, positions and token_example have its length.

    token_example  to which example a token belongs; -1 (`SHARED`): to all
    predict        places whose next token is a label
    labels         the tokens of the answers
    label_example  to which example a label belongs
    used           indices of the examples that found room
    """

    ids: list[int]
    positions: list[int]
    token_example: list[int]
    predict: list[int]
    labels: list[int]
    label_example: list[int]
    used: list[int]


def pack_examples(prompts: Sequence[list[int]], answers: Sequence[list[int]], budget: int) -> Pack:
    """Pack as many examples as fit into `budget` tokens, in order, at least one (the shortest if none fits)."""
    fits = [i for i in range(len(prompts)) if len(prompts[i]) + len(answers[i]) <= budget]
    chosen = fits or [min(range(len(prompts)), key=lambda i: len(prompts[i]) + len(answers[i]))]
    shared = common_length([prompts[i] for i in chosen])
    opening = list(prompts[chosen[0]][:shared])
    *places, start = positions(opening)
    pack = Pack(opening, places, [SHARED] * shared, [], [], [], [])
    for number, i in enumerate(chosen):
        own = [*prompts[i][shared:], *answers[i][:-1]]
        if number and len(pack.ids) + len(own) > budget:
            break
        pack.used.append(i)
        last = len(pack.ids) + len(prompts[i]) - shared - 1
        pack.predict.extend(range(last, last + len(answers[i])))
        pack.labels.extend(answers[i])
        pack.label_example.extend([number] * len(answers[i]))
        pack.ids.extend(own)
        pack.positions.extend(positions(own, start)[:-1])
        pack.token_example.extend([number] * len(own))
    return pack


def in_packs(prompts: Sequence[list[int]], answers: Sequence[list[int]], budget: int) -> list[list[int]]:
    """Which examples fill a pack each, until all are asked."""
    found, rest = list[list[int]](), list(range(len(prompts)))
    while rest:
        used = pack_examples([prompts[i] for i in rest], [answers[i] for i in rest], budget).used
        found.append([rest[at] for at in used])
        rest = [i for at, i in enumerate(rest) if at not in used]
    return found


@dataclass(frozen=True)
class PackBatch:
    """Packs as the sequences of one batch; for every label, the (sequence, position) that predicts it."""

    ids: Int[Tensor, "batch length"]
    positions: Int[Tensor, "batch length"]
    visible: Bool[Tensor, "batch 1 length length"]
    place: Int[Tensor, "labels 2"]
    labels: Int[Tensor, " labels"]
    label_example: Int[Tensor, " labels"]

    def inputs(self, model: Any) -> dict[str, Any]:
        """What the decoder of `model` is called with to read the batch."""
        at = self.positions[:, None]
        return {
            "input_ids": self.ids,
            "position_ids": self.positions,
            "attention_mask": additive_masks(model, self.visible, at, at),
            "use_cache": False,
        }

    def to(self, device: str | torch.device) -> PackBatch:
        return PackBatch(**{name: moved(tensor, device) for name, tensor in vars(self).items()})


def stack(packs: Sequence[Pack], padding: int) -> PackBatch:
    """One batch of packs, the shorter ones padded on the right with the token `padding`."""
    length = max(len(pack.ids) for pack in packs)
    owner = _padded([pack.token_example for pack in packs], length, _PADDING)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = (owner[:, None, :] == owner[:, :, None]) | (owner == SHARED)[:, None, :]
    place = [(index, position) for index, pack in enumerate(packs) for position in pack.predict]
    return PackBatch(
        ids=_padded([pack.ids for pack in packs], length, padding),
        positions=_padded([pack.positions for pack in packs], length, 0),
        visible=(causal & same)[:, None],
        place=torch.tensor(place),
        labels=torch.tensor([label for pack in packs for label in pack.labels]),
        label_example=torch.tensor([number for pack in packs for number in pack.label_example]),
    )


def _padded(values: Sequence[list[int]], length: int, filler: int) -> Int[Tensor, "batch {length}"]:
    return torch.tensor([[*value, *[filler] * (length - len(value))] for value in values])


def common_length(prompts: Sequence[list[int]]) -> int:
    """Length of the common beginning; every prompt keeps at least one token of its own."""
    length = min(map(len, prompts)) - 1
    for at in range(length):
        if len({prompt[at] for prompt in prompts}) > 1:
            return at
    return length
