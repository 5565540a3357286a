"""What training minimises. In: generated weight grids and what they are held against. Out: one loss per adapter.

reconstruction   distance to a teacher's weights (Drag-and-Drop, arXiv 2506.16406)
end to end       the task loss of the frozen base with the generated adapter (Text-to-LoRA, arXiv 2506.06105)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from prompt2lora.training.packs import PackBatch
from prompt2lora.weights.adapted import adapted
from prompt2lora.weights.layout import LoraLayout


class Answers(NamedTuple):
    """Per adapter: mean loss over its answer tokens, and which share of its rows greedy decoding gets right."""

    loss: Float[Tensor, " batch"]
    exact: Float[Tensor, " batch"]


def end_to_end(
    model: Any, layout: LoraLayout, grid: Float[Tensor, "batch layers rows cols"], packs: PackBatch
) -> Answers:
    """Task loss of one pack per adapter. Logits are computed at the answers' places only."""
    dtype = next(model.parameters()).dtype
    mask = torch.zeros(packs.visible.shape, dtype=dtype, device=packs.visible.device)
    mask.masked_fill_(~packs.visible, torch.finfo(dtype).min)
    with adapted(model, grid, layout):
        hidden = model.get_decoder()(
            input_ids=packs.ids, position_ids=packs.positions, attention_mask=mask, use_cache=False
        ).last_hidden_state
    pack, position = packs.place.unbind(-1)
    logits = model.get_output_embeddings()(hidden[pack, position]).float()
    token_loss = torch.nn.functional.cross_entropy(logits, packs.labels, reduction="none")
    batch = len(packs.ids)
    count = torch.bincount(pack, minlength=batch)
    loss = token_loss.new_zeros(batch).index_add(0, pack, token_loss) / count
    return Answers(loss, _exact(logits.argmax(-1) == packs.labels, pack, packs.answer, batch))


def _exact(right: Bool[Tensor, " answers"], pack: Tensor, row: Tensor, batch: int) -> Float[Tensor, " batch"]:
    """Share of rows whose tokens are all right: with the right beginning given, that is greedy exact match."""
    rows = int(row.max()) + 1
    wrong = torch.zeros(batch, rows, device=right.device).index_put((pack, row), (~right).float(), accumulate=True)
    present = torch.zeros(batch, rows, dtype=torch.bool, device=right.device)
    present[pack, row] = True
    return ((wrong == 0) & present).sum(1) / present.sum(1)


def reconstruction(
    grid: Float[Tensor, "batch layers rows cols"],
    teacher: Float[Tensor, "batch layers rows cols"],
    weight: Float[Tensor, "layers rows 1"],
) -> Float[Tensor, " batch"]:
    """Mean squared error, every row of the grid weighted (by the inverse of its variance over the teachers)."""
    return ((grid - teacher).square() * weight).mean((1, 2, 3))
