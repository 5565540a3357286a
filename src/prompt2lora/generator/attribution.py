"""Why an adapter is what it is: which prompts it depends on, and where it differs from what every job gets.

In: a generator, conditions, a weight grid. Out: numbers per prompt and per module. It asks no base model.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.grid import factors, inner
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.generator.generator import Generator

_TINY = 1e-12


class Influence(NamedTuple):
    """How far the update moves if a prompt is left out, as a share of how far it is from the shared adapter."""

    prompt: int
    share: float


def influences(generator: Generator, conditions: Float[Tensor, "prompts width"]) -> list[Influence]:
    """Leave one out, for every prompt; the largest first. A single prompt cannot be left out: its share is 1."""
    layout = generator.config.layout
    if len(conditions) == 1:
        return [Influence(0, 1.0)]
    whole = generator.generate(conditions)
    size = distance(whole, generator.start.detach(), layout)
    found = []
    for i in range(len(conditions)):
        rest = torch.cat([conditions[:i], conditions[i + 1 :]])
        moved = distance(generator.generate(rest), whole, layout)
        found.append(Influence(i, moved / max(size, _TINY)))
    return sorted(found, key=lambda influence: -influence.share)


def changes(
    grid: Float[Tensor, "layers rows cols"], shared: Float[Tensor, "layers rows cols"], layout: LoraLayout
) -> Float[Tensor, "layers targets"]:
    """Per module, the Frobenius norm of the update minus the shared adapter's: what this job alone asks for."""
    squared = _squared_distance(grid, shared, layout)
    return squared.clamp_min(0).sqrt().reshape(layout.layers, len(layout.targets))


def distance(
    one: Float[Tensor, "layers rows cols"], other: Float[Tensor, "layers rows cols"], layout: LoraLayout
) -> float:
    """Frobenius norm of the difference of two adapters' updates scale * B A, over all modules."""
    return float(_squared_distance(one, other, layout).sum().clamp_min(0).sqrt())


def _squared_distance(
    one: Float[Tensor, "layers rows cols"], other: Float[Tensor, "layers rows cols"], layout: LoraLayout
) -> Float[Tensor, " modules"]:
    left, right = factors(one[None].double(), layout), factors(other[None].double(), layout)
    squared = inner(left, left) - 2 * inner(left, right) + inner(right, right)
    return (squared[0] * layout.scale**2).float()
