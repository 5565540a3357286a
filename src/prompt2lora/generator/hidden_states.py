"""How a generator reads prompts: by the text encoder, and by the base model itself with the adapter that jobs share.

In: prompts. Out: conditions, one vector a prompt. A text encoder knows what an instruction is about; the
base knows what it is about to do. For every layer, a prompt gives the state of its last token, where the answer
begins. The mean over prompts of one job of such states is known to carry the job ("task vectors", Hendel et al. 2023,
arXiv 2310.15916; Todd et al. 2024, arXiv 2310.15213).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.hooks import adapted
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import Pack, PackBatch, pack_examples, stack
from prompt2lora.base.pictures import soft_tokens
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.prompts import instruction_of

_MAX_TOKENS = 512  # tokens of a prompt that are read: its beginning and its end
_BUDGET = 1024  # tokens read at once


def states(
    base: Frozen, shared: Float[Tensor, "layers rows cols"], prompts: Sequence[Prompt]
) -> Float[Tensor, "prompts states"]:
    """All prompts as the base reads them: layers x hidden numbers each."""
    ids = prompt_ids(base.chat, prompts)
    found: dict[int, Tensor] = {}
    while len(found) < len(ids):
        rest = [i for i in range(len(ids)) if i not in found]
        pack = reading_pack([ids[i] for i in rest], _BUDGET)
        read = read_packs(base, shared, [pack])[0]
        found.update((rest[i], state) for i, state in zip(pack.used, read, strict=True))
    return torch.stack([found[i] for i in range(len(ids))])


def prompt_ids(chat: ChatFormat, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids as the base sees the prompts; of a long one, if it is text alone, the instruction and the end."""
    return [
        ids if len(ids) <= _MAX_TOKENS or soft_tokens(ids) else _shortened(chat, prompt, ids)
        for prompt, ids in zip(prompts, chat.prompt_ids(prompts), strict=True)
    ]


def _shortened(chat: ChatFormat, prompt: Prompt, ids: list[int]) -> list[int]:
    """Half of what is read is the beginning, or more of it where the instruction needs that; the rest is the end."""
    beginning = min(max(_MAX_TOKENS // 2, _framed(chat, instruction_of([prompt]))), _most_framed())
    return ids[:beginning] + ids[beginning - _MAX_TOKENS :]


def is_read_whole(chat: ChatFormat, instruction: str) -> bool:
    """Whether the base reads all of an instruction, however long the input after it is."""
    return _framed(chat, instruction) <= _most_framed()


def _most_framed() -> int:
    """So that an eighth of what is read is the end at least: the frame's, and some of the input's."""
    return _MAX_TOKENS * 7 // 8


def _framed(chat: ChatFormat, instruction: str) -> int:
    """Tokens of an instruction within the base's frame, the end of the frame included."""
    return len(chat.prompt_ids([instruction])[0])


def reading_pack(ids: Sequence[list[int]], budget: int) -> Pack:
    """As many prompts as the budget holds; the only place of each where a prediction is asked is its last token."""
    return pack_examples(ids, [[0]] * len(ids), budget)


@torch.no_grad()
def read_packs(
    base: Frozen, shared: Float[Tensor, "layers rows cols"], packs: Sequence[Pack]
) -> list[Float[Tensor, "prompts states"]]:
    """The states of every pack's prompts."""
    batch = stack(packs, base.chat.padding).to(base.model.device)
    with adapted(base.model, shared[None], base.layout):
        hidden = base.model.get_decoder()(**batch.inputs(base.model), output_hidden_states=True).hidden_states
    return list(torch.split(last_states(hidden, batch), [len(pack.predict) for pack in packs]))


def last_states(
    hidden: Sequence[Float[Tensor, "batch length width"]], batch: PackBatch
) -> Float[Tensor, "prompts states"]:
    """Of all layers (`hidden` begins with the word vectors), what stands at the last tokens of the packs' prompts."""
    last = batch.place.unbind(1)
    return torch.stack([layer[last] for layer in hidden[1:]], 1).float().flatten(1)
