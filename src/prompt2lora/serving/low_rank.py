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

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.serving.low_rank_kernel import Kernel, compiles

_SHORT = 96  # tokens; a longer part is multiplied as matrices, which is quicker there


class LowRank:
    """Hooks itself into the model for good."""

    def __init__(self, model: Any, layout: LoraLayout, capacity: int) -> None:
        parameter = next(model.parameters())
        self.grids: Float[Tensor, "places layers rows cols"] = torch.zeros(
            capacity, *layout.shape, dtype=parameter.dtype, device=parameter.device
        )
        self.has_adapter = [False] * capacity
        self._alone = 0
        self._long: list[tuple[int, int, int]] = []  # (place, begin, end)
        self._idle = True
        self._places = np.zeros(0, np.int64)  # of every token that the kernel adapts; -1: none
        self._kernel = Kernel(parameter.dtype) if compiles(parameter) else None
        if self._kernel:
            self._numbers = self._kernel.numbers(self.grids.flatten(1))
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
        spans = [(place, *span) for (place, _), span in zip(parts, pairwise(ends), strict=True)]
        self._alone = alone
        self._long = [one for one in spans if self._kernel is None or one[2] - one[1] > _SHORT]
        owners = [*range(alone), *(place for place, tokens in parts for _ in range(tokens))]
        self._places = np.array([p if self.has_adapter[p] else -1 for p in owners], np.int64)
        self._idle = not (self._places >= 0).any()
        for _, begin, end in self._long:
            self._places[begin:end] = -1

    def _add(
        self,
        a: Float[Tensor, "places rank width"],
        b: Float[Tensor, "places rank out"],
        _module: nn.Module,
        inputs: tuple[Float[Tensor, "1 tokens width"]],
        output: Float[Tensor, "1 tokens out"],
    ) -> None:
        if self._idle:
            return
        given, into = inputs[0][0], output[0]
        if self._kernel:
            at_a, at_b = int(a.storage_offset()), int(b.storage_offset())
            self._kernel.add(given, self._places, self._numbers, at_a, at_b, a.shape[1], into)
        elif count := self._alone:
            into[:count] += torch.bmm(torch.bmm(given[:count, None], a[:count].mT), b[:count])[:, 0]
        for place, begin, end in self._long:
            into[begin:end] += (given[begin:end] @ a[place].mT) @ b[place]
