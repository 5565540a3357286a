"""What the adapters of the running batch add to the modules of the base, each to the tokens of its own sequence.

In: an adapter for every place of the batch, and which tokens of a row belong to which place. Out: outputs of modules
with the updates added. A sequence without an adapter has zeros here, which is exactly the base. It knows neither tokens
nor keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.layout import LoraLayout

_SHORT = 96  # tokens; a longer part is multiplied in the numbers of the base, which are quicker there


class LowRank:
    """Hooks itself into the model for good."""

    def __init__(self, model: Any, layout: LoraLayout, capacity: int) -> None:
        parameter = next(model.parameters())
        # On a CPU such small products take two to four times as long in bfloat16 as in float32.
        dtype = torch.float32 if parameter.device.type == "cpu" else parameter.dtype
        self.grids: Float[Tensor, "places layers rows cols"] = torch.zeros(
            capacity, *layout.shape, dtype=dtype, device=parameter.device
        )
        self.has_adapter = [False] * capacity
        self._alone = 0
        self._parts: list[tuple[int, int, int]] = []  # (place, begin, end)
        self._end = 0  # of what is adapted; 0: nothing is
        self._given: tuple[Tensor | None, Tensor]  # of the last module, and in other numbers; neighbours have the same
        for path, (a, b) in factors(self.grids, layout).items():
            model.get_submodule(path).register_forward_hook(partial(self._add, a, b))

    def set(self, place: int, grid: Float[Tensor, "layers rows cols"] | None) -> None:
        """Give a place its adapter, already scaled (`adapter_cache.fitted`), or None for the base."""
        if grid is not None:
            self.grids[place].copy_(grid)
        elif self.has_adapter[place]:
            self.grids[place].zero_()
        self.has_adapter[place] = grid is not None

    def move(self, source: int, target: int) -> None:
        """The adapter of one place is that of another, too."""
        self.set(target, self.grids[source] if self.has_adapter[source] else None)

    def expect(self, alone: int, parts: Sequence[tuple[int, int]]) -> None:
        """What the row holds that comes next: a token of each of the first places, then parts (place, tokens)."""
        ends = list(accumulate((tokens for _, tokens in parts), initial=alone))
        places = [place for place, _ in parts]
        self._alone = alone
        self._parts = [(place, *span) for place, span in zip(places, pairwise(ends), strict=True)]
        self._end = ends[-1] if any(self.has_adapter[place] for place in (*range(alone), *places)) else 0
        self._given = None, self.grids

    def _add(
        self,
        a: Float[Tensor, "places rank width"],
        b: Float[Tensor, "places rank out"],
        _module: nn.Module,
        inputs: tuple[Float[Tensor, "1 tokens width"]],
        output: Float[Tensor, "1 tokens out"],
    ) -> None:
        if not self._end:
            return
        if self._given[0] is not inputs[0]:
            self._given = inputs[0], inputs[0][0, : self._end].to(self.grids.dtype)
        given = self._given[1]
        added = given.new_empty(self._end, output.shape[2])
        if count := self._alone:
            torch.bmm(torch.bmm(given[:count, None], a[:count].mT), b[:count], out=added[:count, None])
        for place, begin, end in self._parts:
            part, into, down, up = given[begin:end], added[begin:end], a[place], b[place]
            if end - begin > _SHORT:
                part, down, up = inputs[0][0, begin:end], down.to(output.dtype), up.to(output.dtype)
            into.copy_((part @ down.mT) @ up)
        output[0, : self._end] += added.to(output.dtype)
