"""One reading of prompts by the base: their states, its own answers, and what its attention does with every token.

In: a base, an adapter, prompts as token ids. Out: an `Observed`. All prompts stand in one packed sequence, and the
answers go on in it from what was read. It changes no weights and knows no least squares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.attention import additive_masks
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import SHARED, UNLIMITED, Pack, stack
from prompt2lora.base.pictures import positions
from prompt2lora.generator.hidden_states import last_states, reading_pack

OUTPUT = "o_proj"  # what tokens hear of others passes through these projections


class Observed(NamedTuple):
    """What the base did with prompts.

    pack     the prompts, and behind all of them the answers, token by token
    states   of the last token of every prompt, layer after layer
    answers  the base's own, greedy, without the end token
    given    per path of an output projection what it got, at all tokens of the pack
    reached  what it made of that
    """

    pack: Pack
    states: Float[Tensor, "prompts states"]
    answers: list[list[int]]
    given: Mapping[str, Float[Tensor, "places in"]]
    reached: Mapping[str, Float[Tensor, "places out"]]


class Call(NamedTuple):
    """What a module got and gave in one call."""

    given: Float[Tensor, "1 length in"]
    reached: Float[Tensor, "1 length out"]


def output_paths(layout: LoraLayout) -> list[str]:
    """Paths of the output projections that the layout's adapters change, from the first layer on."""
    return [path for _, target, path in layout.module_paths() if target.name == OUTPUT]


@torch.no_grad()
def observe(
    base: Frozen, grid: Float[Tensor, "layers rows cols"], prompts: Sequence[list[int]], max_new_tokens: int
) -> Observed:
    """The base, adapted by the grid, reads prompts (token ids) and goes on with at most so many tokens of each."""
    from transformers import DynamicCache

    model, chat, layout = base
    pack = reading_pack(prompts, UNLIMITED)
    batch = stack([pack], chat.padding).to(model.device)
    ends = [positions(prompt)[-1] for prompt in prompts]
    cache = DynamicCache()  # of all tokens: the mask says which of them are seen
    answers: list[list[int]] = [[] for _ in prompts]
    with adapted(model, grid[None], layout), _watched(model, output_paths(layout)) as seen:
        decoder = model.get_decoder()
        inputs = {**batch.inputs(model), "use_cache": True}
        read = decoder(**inputs, past_key_values=cache, output_hidden_states=True)
        states = last_states(read.hidden_states, batch)
        active, hidden = list(range(len(prompts))), read.last_hidden_state[batch.place.unbind(1)]
        for _ in range(max_new_tokens):
            picked = model.get_output_embeddings()(hidden).argmax(-1).tolist()
            new = [(one, token) for one, token in zip(active, picked, strict=True) if token not in chat.ends]
            if not new:
                break
            active = [one for one, _ in new]
            pack = _longer(pack, new, [ends[one] + len(answers[one]) for one in active])
            for one, token in new:
                answers[one].append(token)
            hidden = decoder(**_newest(model, pack, len(new)), past_key_values=cache).last_hidden_state[0]
        given, reached = (
            {path: torch.cat([call[side] for call in calls], 1)[0] for path, calls in seen.items()} for side in (0, 1)
        )
    return Observed(pack, states, answers, given, reached)


def _longer(pack: Pack, new: Sequence[tuple[int, int]], positions: Sequence[int]) -> Pack:
    """The pack with one more token (example, id) of some of its examples, at the end."""
    return replace(
        pack,
        ids=[*pack.ids, *(token for _, token in new)],
        positions=[*pack.positions, *positions],
        token_example=[*pack.token_example, *(one for one, _ in new)],
    )


def _newest(model: Any, pack: Pack, count: int) -> dict[str, Any]:
    """What the decoder is called with to read the last tokens of a pack, one of each example, after all others."""
    owner = torch.tensor(pack.token_example, device=model.device)
    visible = (owner == SHARED) | (owner == owner[-count:, None])
    at = torch.tensor(pack.positions, device=model.device)
    return {
        "input_ids": torch.tensor([pack.ids[-count:]], device=model.device),
        "position_ids": at[None, -count:],
        "attention_mask": additive_masks(model, visible[None, None], at[-count:], at),
        "use_cache": True,
    }


@contextmanager
def _watched(model: Any, paths: Sequence[str]) -> Iterator[dict[str, list[Call]]]:
    """While the context lasts, what the modules get and give is kept, call after call."""
    seen: dict[str, list[Call]] = {path: [] for path in paths}
    handles = [model.get_submodule(path).register_forward_hook(partial(_keep, calls)) for path, calls in seen.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _keep(calls: list[Call], _module: Any, inputs: tuple[Any, ...], output: Float[Tensor, "1 length out"]) -> None:
    calls.append(Call(inputs[0].float(), output.float()))
