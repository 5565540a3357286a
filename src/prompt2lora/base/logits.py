"""Packs -> what the base, perhaps through adapters, would say at their answers.

In: a base model, packs, a weight grid for each of them (or one for all, or none). Out: logits at the answers' places
and nowhere else; gradients flow into the grids. It knows no losses.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.packing import PackBatch


def answer_logits(
    model: Any, layout: LoraLayout, grid: Float[Tensor, "batch layers rows cols"] | None, packs: PackBatch
) -> Float[Tensor, "labels vocabulary"]:
    """Logits at the answers' places and nowhere else, of one pack per adapter (or all by one adapter, or the base)."""
    with adapted(model, grid, layout) if grid is not None else nullcontext():
        hidden = model.get_decoder()(**packs.inputs(model)).last_hidden_state
    logits: Tensor = model.get_output_embeddings()(hidden[packs.place.unbind(-1)]).float()
    return logits
