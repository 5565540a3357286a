"""A change of a weight grid in four bits a number and a scale for every row: what a second adapter costs.

In: a change. Out: tensors that hold it to a fourteenth of the largest number of each row, and back. Writing what was
read gives the same tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

CODES, SCALES = "change_codes", "change_scales"
_MOST = 7  # codes run from -7 to 7, kept as 1 to 15; two share a byte


def quantised(change: Float[Tensor, "layers rows cols"]) -> dict[str, Tensor]:
    scales = (change.abs().amax(-1, keepdim=True) / _MOST).bfloat16()
    steps = (change / scales.float().clamp(min=torch.finfo(torch.float32).tiny)).round().clamp(-_MOST, _MOST)
    codes = (steps + _MOST + 1).to(torch.uint8).flatten()
    if len(codes) % 2:
        codes = torch.nn.functional.pad(codes, (0, 1))
    return {CODES: codes[::2] | codes[1::2] << 4, SCALES: scales}


def restored(state: Mapping[str, Tensor], shape: tuple[int, ...]) -> Float[Tensor, "layers rows cols"]:
    """The change of a grid of this shape."""
    halves = torch.stack((state[CODES] & 15, state[CODES] >> 4), -1).flatten()[: torch.Size(shape).numel()]
    return (halves.float() - (_MOST + 1)).view(shape) * state[SCALES].float()
