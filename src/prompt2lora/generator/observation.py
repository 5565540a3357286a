"""What the base does with texts: what the output projections of its attention get and give, its states, its answers.

In: a base, an adapter, packs or prompts. Out: one vector for every token and projection; of prompts also the states of
their last tokens and the base's own greedy answers, from one reading: the answers go on from what was read, all of
them in the same packed sequence. It changes no weights and knows no least squares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import SHARED, UNLIMITED, Pack, pack_examples, stack

OUTPUT = "o_proj"


class Observed(NamedTuple):
    """Packs, and per path of an output projection what it got and gave, at all their tokens, pack after pack."""

    packs: tuple[Pack, ...]
    given: Mapping[str, Float[Tensor, "places in"]]
    reached: Mapping[str, Float[Tensor, "places out"]]


class Answered(NamedTuple):
    """Prompts read in one pack, the answers behind them; `states` are those of the prompts' last tokens."""

    observed: Observed
    states: Float[Tensor, "prompts states"]
    answers: list[list[int]]


def output_paths(layout: LoraLayout) -> list[str]:
    """Paths of the output projections that the layout's adapters change, from the first layer on."""
    return [path for _, target, path in layout.module_paths() if target.name == OUTPUT]


@torch.no_grad()
def observe(base: Frozen, grid: Float[Tensor, "layers rows cols"], packs: Sequence[Pack]) -> Observed:
    """The base, adapted by the grid, reads packs."""
    model, chat, layout = base
    batch = stack(packs, chat.padding).to(model.device)
    real = (torch.arange(batch.ids.shape[1]) < torch.tensor([len(pack.ids) for pack in packs])[:, None]).to(batch.ids)
    with adapted(model, grid[None], layout), _watched(model, output_paths(layout)) as seen:
        model.get_decoder()(**batch.inputs(model))
        return Observed(tuple(packs), *(_joined(seen, side, real.bool()) for side in (0, 1)))


@torch.no_grad()
def answered(
    base: Frozen, grid: Float[Tensor, "layers rows cols"], prompts: Sequence[list[int]], max_new_tokens: int
) -> Answered:
    """The base, adapted by the grid, reads prompts (token ids) and goes on with at most so many tokens of each."""
    from transformers import DynamicCache

    model, chat, layout = base
    pack = pack_examples(prompts, [[0]] * len(prompts), UNLIMITED)
    batch = stack([pack], chat.padding).to(model.device)
    cache = DynamicCache()  # of all tokens: the mask says which of them are seen
    answers: list[list[int]] = [[] for _ in prompts]
    with adapted(model, grid[None], layout), _watched(model, output_paths(layout)) as seen:
        inputs = {**batch.inputs(model), "use_cache": True, "past_key_values": cache}
        read = model.get_decoder()(**inputs, output_hidden_states=True)
        last = torch.tensor(pack.predict, device=model.device)
        states = torch.stack([layer[0, last] for layer in read.hidden_states[1:]], 1).float().flatten(1)
        active, hidden = list(range(len(prompts))), read.last_hidden_state[0, last]
        for _ in range(max_new_tokens):
            picked = model.get_output_embeddings()(hidden).argmax(-1).tolist()
            new = [(one, token) for one, token in zip(active, picked, strict=True) if token != chat.end]
            if not new:
                break
            active = [one for one, _ in new]
            pack = _longer(pack, new, [len(prompts[one]) + len(answers[one]) for one in active])
            for one, token in new:
                answers[one].append(token)
            hidden = model.get_decoder()(**_newest(model, pack, len(new)), past_key_values=cache).last_hidden_state[0]
        everything = torch.ones(1, len(pack.ids), dtype=torch.bool, device=model.device)
        observed = Observed((pack,), *(_joined(seen, side, everything) for side in (0, 1)))
    return Answered(observed, states, answers)


def _longer(pack: Pack, new: Sequence[tuple[int, int]], positions: Sequence[int]) -> Pack:
    """The pack with one more token of some of its examples, at the end."""
    return Pack(
        [*pack.ids, *(token for _, token in new)],
        [*pack.positions, *positions],
        [*pack.token_example, *(one for one, _ in new)],
        pack.predict,
        pack.labels,
        pack.label_example,
        pack.used,
    )


def _newest(model: Any, pack: Pack, count: int) -> dict[str, Any]:
    """What the decoder is called with to read the last tokens of a pack, one of each example, after all others."""
    owner = torch.tensor(pack.token_example, device=model.device)
    visible = (owner == SHARED) | (owner == owner[-count:, None])
    dtype = next(model.parameters()).dtype
    mask = torch.zeros(1, 1, *visible.shape, dtype=dtype, device=model.device)
    return {
        "input_ids": torch.tensor([pack.ids[-count:]], device=model.device),
        "position_ids": torch.tensor([pack.positions[-count:]], device=model.device),
        "attention_mask": mask.masked_fill_(~visible, torch.finfo(dtype).min),
        "use_cache": True,
    }


_Seen = dict[str, list[tuple[Tensor, Tensor]]]


@contextmanager
def _watched(model: Any, paths: Sequence[str]) -> Iterator[_Seen]:
    """While the context lasts, what the modules get and give is kept, call after call."""
    seen: _Seen = {path: [] for path in paths}

    def keep(path: str) -> Any:
        def hook(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[path].append((inputs[0].float(), output.float()))

        return hook

    handles = [model.get_submodule(path).register_forward_hook(keep(path)) for path in paths]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _joined(seen: _Seen, side: int, real: Bool[Tensor, "sequences length"]) -> dict[str, Float[Tensor, "places width"]]:
    """What was got (side 0) or given (1), call after call along the sequences, at the real tokens."""
    return {path: torch.cat([call[side] for call in calls], 1)[real] for path, calls in seen.items()}


def same_places(
    wholes: Sequence[Pack], inner: Pack
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Places of the same token, among those of all whole packs and in `inner`: what every text's two versions end with
    alike."""
    pairs: dict[tuple[int, int], None] = {}
    known = before = 0
    for whole in wholes:
        for number in range(len(whole.used)):
            ends = _tokens_of(whole, number)[::-1], _tokens_of(inner, known + number)[::-1]
            for there, here in zip(*ends, strict=False):
                if whole.ids[there] != inner.ids[here]:
                    break
                pairs[before + there, here] = None
        known, before = known + len(whole.used), before + len(whole.ids)
    there, here = torch.tensor(list(pairs)).T
    return there, here


def _tokens_of(pack: Pack, number: int) -> list[int]:
    """Places of a text's tokens and of its answer's, those included that all share."""
    return [at for at, owner in enumerate(pack.token_example) if owner in (number, SHARED)]
