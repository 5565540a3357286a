"""What the attention of a base may look at, as its layers ask for it: some look no further back than a window.

In: what every token may see, and where all stand. Out: one mask for all layers or one for each kind of them. It
knows no tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_SLIDING = "sliding_attention"  # as transformers names layers that have a window where others have none


class Windows(NamedTuple):
    """The kinds of a base's layers (none: all are alike), and the tokens that those with a window see (0: all)."""

    kinds: frozenset[str]
    window: int

    @classmethod
    def of(cls, model: Any) -> Windows:
        config = model.config.get_text_config()
        kinds = getattr(config, "layer_types", None) or ()
        return cls(frozenset(kinds), getattr(config, "sliding_window", None) or 0)

    def masks(
        self, seen: Bool[Tensor, "batch 1 new keys"], at: Int[Tensor, "... new"], keys: Int[Tensor, "... keys"]
    ) -> Bool[Tensor, "batch 1 new keys"] | dict[str, Bool[Tensor, "batch 1 new keys"]]:
        """What of `seen` the layers see, from tokens at the positions `at` among those at `keys`."""
        if not self.window:
            return seen
        near = seen & (at[..., :, None] - keys[..., None, :] < self.window)
        return {kind: near if kind == _SLIDING else seen for kind in self.kinds} or near


def additive_masks(
    model: Any,
    seen: Bool[Tensor, "batch 1 new keys"],
    at: Int[Tensor, "... new"],
    keys: Int[Tensor, "... keys"],
) -> Float[Tensor, "batch 1 new keys"] | dict[str, Float[Tensor, "batch 1 new keys"]]:
    """What the base's attention adds: nothing where it may look, the least number elsewhere."""
    dtype = next(model.parameters()).dtype
    masks = Windows.of(model).masks(seen, at, keys)
    if isinstance(masks, dict):
        return {kind: _additive(mask, dtype) for kind, mask in masks.items()}
    return _additive(masks, dtype)


def _additive(mask: Bool[Tensor, "batch 1 new keys"], dtype: torch.dtype) -> Float[Tensor, "batch 1 new keys"]:
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)
