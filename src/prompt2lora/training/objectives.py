"""What training minimises. In: generated weight grids and what they are held against. Out: one loss per adapter.

end to end       the task loss of the frozen base with the generated adapter (Text-to-LoRA, arXiv 2506.06105)
reconstruction   distance to a teacher's weights (Drag-and-Drop, arXiv 2506.16406)
product          distance to a teacher's updates, however they are written as factors
distillation     divergence from the answers of a teacher that is told more: the instruction, or the task's own LoRA
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from prompt2lora.adapter.grid import factors, inner
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.packing import PackBatch


class Answers(NamedTuple):
    """Per adapter: mean loss over its answer tokens, and which share of its examples greedy decoding gets right."""

    loss: Float[Tensor, " batch"]
    exact: Float[Tensor, " batch"]


def end_to_end(
    model: Any, layout: LoraLayout, grid: Float[Tensor, "batch layers rows cols"] | None, packs: PackBatch
) -> Answers:
    """Task loss of one pack per adapter, or of all by the base alone."""
    return judged(answer_logits(model, layout, grid, packs), packs)


def judged(logits: Float[Tensor, "labels vocabulary"], packs: PackBatch) -> Answers:
    """What the logits at the answers' places are worth."""
    token_loss = torch.nn.functional.cross_entropy(logits, packs.labels, reduction="none")
    right = logits.argmax(-1) == packs.labels
    return Answers(_per_pack(token_loss, packs), _exact(right, packs.place[:, 0], packs.label_example, len(packs.ids)))


def distillation(
    logits: Float[Tensor, "labels vocabulary"], teacher: Float[Tensor, "labels vocabulary"], packs: PackBatch
) -> Float[Tensor, " batch"]:
    """Divergence of the adapted base's answers from a teacher's, per answer token (Hinton et al. 2015)."""
    divergence = torch.nn.functional.kl_div(
        logits.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    return _per_pack(divergence, packs)


def _per_pack(values: Float[Tensor, " labels"], packs: PackBatch) -> Float[Tensor, " batch"]:
    """Mean over the answer tokens of every pack."""
    pack, batch = packs.place[:, 0], len(packs.ids)
    return values.new_zeros(batch).index_add(0, pack, values) / torch.bincount(pack, minlength=batch)


def _exact(
    right: Bool[Tensor, " labels"], pack: Int[Tensor, " labels"], example: Int[Tensor, " labels"], batch: int
) -> Float[Tensor, " {batch}"]:
    """Share of examples whose labels are all right: with the right beginning given, that is greedy exact match."""
    count = int(example.max()) + 1
    wrong = torch.zeros(batch, count, device=right.device).index_put((pack, example), (~right).float(), accumulate=True)
    present = torch.zeros(batch, count, dtype=torch.bool, device=right.device)
    present[pack, example] = True
    return ((wrong == 0) & present).sum(1) / present.sum(1)


def reconstruction(
    grid: Float[Tensor, "batch layers rows cols"],
    teacher: Float[Tensor, "batch layers rows cols"],
    weight: Float[Tensor, "layers rows 1"],
) -> Float[Tensor, " batch"]:
    """Mean squared error, every row of the grid weighted (by the inverse of its variance over the teachers)."""
    return ((grid - teacher).square() * weight).mean((1, 2, 3))


def product(
    grid: Float[Tensor, "batch layers rows cols"], teacher: Float[Tensor, "batch layers rows cols"], layout: LoraLayout
) -> Float[Tensor, " batch"]:
    """Squared distance between the updates B A themselves, as a share of the teacher's, mean over the modules.

    Unlike `reconstruction` it does not care by which factors an update is written.
    """
    mine, theirs = factors(grid, layout), factors(teacher, layout)
    fixed = inner(theirs, theirs)
    distance = inner(mine, mine) - 2 * inner(mine, theirs) + fixed
    return (distance / fixed.clamp_min(1e-12)).mean(1)
