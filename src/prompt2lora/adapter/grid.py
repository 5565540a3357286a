"""The weight grid of an adapter <-> its named LoRA matrices, exactly, in both directions.

In and out: tensors. It knows no files and no text. Names are those of PEFT:
`base_model.model.<module path>.lora_A.weight` (rank, in) and `.lora_B.weight` (out, rank).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.layout import Block, LoraLayout, Target
from prompt2lora.errors import DamagedFile


class Factors(NamedTuple):
    """One module's LoRA for a batch of adapters; `b` is transposed, so that both have the rank first."""

    a: Float[Tensor, "batch rank in"]
    b: Float[Tensor, "batch rank out"]


def weight_name(module_path: str, side: str) -> str:
    return f"base_model.model.{module_path}.lora_{side}.weight"


def factors(grid: Float[Tensor, "batch layers rows cols"], layout: LoraLayout) -> dict[str, Factors]:
    """Module path -> its factors, as views of the grid where memory allows."""
    sides: dict[tuple[Target, str], Sequence[Tensor]] = {}
    heights = [block.stop - block.start for block in layout.blocks]
    rows = torch.split_with_sizes(grid, heights, 2)  # their gradients meet once, not one by one in the whole grid
    for block, own in zip(layout.blocks, rows, strict=True):
        sides[block.target, block.side] = _matrix(own, block, layout).unbind(1)
    return {
        path: Factors(sides[target, "A"][layer], sides[target, "B"][layer])
        for layer, target, path in layout.module_paths()
    }


def inner(one: Mapping[str, Factors], other: Mapping[str, Factors]) -> Float[Tensor, "batch modules"]:
    """Frobenius inner products of the updates B A of two adapters, module by module, without forming them."""
    products = [((one[path].a @ other[path].a.mT) * (one[path].b @ other[path].b.mT)).sum((1, 2)) for path in one]
    return torch.stack(products, 1)


def singular(
    a: Float[Tensor, "*batch rank in"], b: Float[Tensor, "*batch rank out"]
) -> tuple[Float[Tensor, "*batch out left"], Float[Tensor, "*batch values"], Float[Tensor, "*batch right in"]]:
    """Left vectors, values and right vectors of the update B A, the largest value first, without forming it. Of each
    there are as many as the rank; fewer where the module is narrower."""
    left, right = torch.linalg.qr(b.mT), torch.linalg.qr(a.mT)
    u, values, v = torch.linalg.svd(left.R @ right.R.mT)
    return left.Q @ u, values, v @ right.Q.mT


def balanced(
    grid: Float[Tensor, "batch layers rows cols"], layout: LoraLayout
) -> Float[Tensor, "batch layers rows cols"]:
    """The same updates in one fixed form: A and B share the singular values, largest first, every row of A with a
    positive largest entry. A, B and R A, B R^-1 have the same balanced form for any invertible R."""
    found = torch.empty_like(grid)
    for block_a, block_b in zip(layout.blocks[::2], layout.blocks[1::2], strict=True):
        a, b = (_matrix(grid[:, :, block.start : block.stop], block, layout).double() for block in (block_a, block_b))
        left, values, right = singular(a, b)
        root = values.sqrt().unsqueeze(-1)
        new_a, new_b = root * right, root * left.mT
        largest = new_a.gather(-1, new_a.abs().argmax(-1, keepdim=True))
        for block, matrix in ((block_a, new_a * largest.sign()), (block_b, new_b * largest.sign())):
            found[:, :, block.start : block.stop] = matrix.to(grid.dtype).reshape(*grid.shape[:2], -1, layout.cols)
    return found


def _matrix(
    own: Float[Tensor, "batch layers rows cols"], block: Block, layout: LoraLayout
) -> Float[Tensor, "batch layers rank width"]:
    """A block's own rows as its matrices."""
    return own.reshape(*own.shape[:2], layout.rank, block.width)


def decode(grid: Float[Tensor, "layers rows cols"], layout: LoraLayout) -> dict[str, Tensor]:
    """Weight grid -> PEFT state dict."""
    state = {}
    for path, factor in factors(grid[None], layout).items():
        state[weight_name(path, "A")] = factor.a[0].contiguous()
        state[weight_name(path, "B")] = factor.b[0].T.contiguous()
    return state


def encode(state: Mapping[str, Tensor], layout: LoraLayout) -> Float[Tensor, "layers rows cols"]:
    """PEFT state dict -> weight grid; the exact inverse of `decode`.

    Raises DamagedFile if a matrix is missing, too many, or of another shape than the layout says.
    """
    expected = {weight_name(path, side) for _, _, path in layout.module_paths() for side in "AB"}
    if state.keys() != expected:
        wrong = sorted(expected ^ state.keys())[0]
        raise DamagedFile(f"an adapter must hold exactly the layout's matrices; {wrong} is missing or unknown")
    layers = []
    for layer in range(layout.layers):
        rows = []
        for block in layout.blocks:
            name = weight_name(f"{layout.stem}.{layer}.{block.target.path}", block.side)
            matrix = state[name] if block.side == "A" else state[name].T
            if tuple(matrix.shape) != (layout.rank, block.width):
                raise DamagedFile(f"{name}: shape {tuple(state[name].shape)} does not fit rank {layout.rank}")
            rows.append(matrix.reshape(-1, layout.cols))
        layers.append(torch.cat(rows))
    return torch.stack(layers)


def initial_grid(layout: LoraLayout, seed: int) -> Float[Tensor, "layers rows cols"]:
    """Where teachers and generators of one seed begin: A uniform within 1 / sqrt(in), B zero."""
    random = torch.Generator().manual_seed(seed)
    grid = torch.zeros(layout.shape)
    for block in layout.blocks:
        if block.side == "A":
            rows = grid[:, block.start : block.stop]
            rows.copy_((torch.rand(rows.shape, generator=random) * 2 - 1) * block.width**-0.5)
    return grid
