"""Intruder dimensions: new directions that an adapter puts among the leading ones of a weight matrix.

In: base weights and an adapter. Out: per module, the leading left singular vectors of W + scale * B A that resemble no
singular vector of W at all (Shuttleworth et al. 2024, arXiv 2410.21228, who find that forgetting goes with them).
Exact, but for a few modules only: those whose update is the largest against the weight. It judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.health import shares
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.ground.progress import tell

_MODULES = 12  # that are examined
_LEADING = 10  # directions of each
_SIMILAR = 0.5


class Intruder(NamedTuple):
    """Direction number `place` (1: the leading one) of a module's new weight; its largest cosine to an old one."""

    module: str
    place: int
    similarity: float


class Intruders(NamedTuple):
    """`looked_at`: the modules that were examined, the largest relative update first."""

    found: tuple[Intruder, ...]
    looked_at: tuple[str, ...]


def intruders(
    weights: Mapping[str, Float[Tensor, "out in"]],
    grid: Float[Tensor, "layers rows cols"],
    layout: LoraLayout,
) -> Intruders:
    """`weights` by module path. A direction is an intruder if no old one has a cosine of at least `_SIMILAR` to it."""
    share = shares(weights, grid, layout)
    chosen = sorted(share, key=lambda path: -share[path])[:_MODULES]
    found = []
    pairs = factors(grid[None].double(), layout)
    for number, path in enumerate(chosen):
        tell({"done": number, "of": len(chosen)})
        weight, pair = weights[path].double(), pairs[path]
        new = _directions(weight + layout.scale * pair.b[0].T @ pair.a[0])[:, :_LEADING]
        similarity = (_directions(weight).T @ new).abs().amax(0).tolist()
        found += [Intruder(path, place, cosine) for place, cosine in enumerate(similarity, 1) if cosine < _SIMILAR]
    return Intruders(tuple(found), tuple(chosen))


def _directions(weight: Float[Tensor, "out in"]) -> Float[Tensor, "out directions"]:
    """Left singular vectors, the leading ones first, from the Gram matrix of the shorter side."""
    if weight.shape[0] <= weight.shape[1]:
        left: Tensor = torch.linalg.eigh(weight @ weight.T).eigenvectors
        return left.flip(1)
    right = torch.linalg.eigh(weight.T @ weight).eigenvectors.flip(1)
    return torch.nn.functional.normalize(weight @ right, dim=0)
