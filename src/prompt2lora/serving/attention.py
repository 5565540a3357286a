"""Attention over a row in which the tokens of several sequences stand one after the other, each piece by itself.

In: queries of the row, and for each piece of it the keys and values that it may look at. Out: what the base's own
attention gives for every piece. No piece is weighed against another one's keys, as one mask over the row would do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from prompt2lora.errors import Unfit

_NAME, _OWN = "prompt2lora", "sdpa"
Held = Float[Tensor, "sequences heads length width"]


class Piece(NamedTuple):
    """Tokens of the row, and the keys or values of their sequences. `apart`: each token is of a sequence of its own."""

    tokens: slice
    apart: bool
    held: Held


def attend_in_pieces(model: Any) -> None:
    """Let the language tower of a model do so; its cache has to give pieces. Raises Unfit for one with another kind of
    attention."""
    from transformers import AttentionInterface

    tower = model.get_decoder()
    if (own := tower.config._attn_implementation) not in (_OWN, _NAME):
        raise Unfit(f"the base {model.name_or_path} has attention of its own ({own}); serve it with another engine")
    AttentionInterface.register(_NAME, _attend)
    tower.set_attn_implementation(_NAME)


def _attend(
    module: Any,
    query: Float[Tensor, "1 heads tokens width"],
    keys: list[Piece],
    values: list[Piece],
    attention_mask: Bool[Tensor, "1 1 tokens length"],
    **options: Any,
) -> tuple[Float[Tensor, "1 tokens heads value_width"], None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    width = values[0].held.shape[-1]
    found = query.new_zeros(1, query.shape[2], query.shape[1], width)  # of what fills the row up nothing is asked
    for (tokens, apart, held), value in zip(keys, values, strict=True):
        asked, mask = query[:, :, tokens], attention_mask[:, :, tokens, : held.shape[2]]
        if apart:
            asked, mask = asked.transpose(0, 2), mask.transpose(0, 2)
        each, _ = sdpa_attention_forward(module, asked, held, value.held, mask, **options)
        found[0, tokens] = each.flatten(0, 1)
    return found, None
