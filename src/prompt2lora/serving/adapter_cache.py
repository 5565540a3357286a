"""The adapters in memory: a bounded number of weight grids; the least recently used one goes first.

In: versions. Out: their grids, ready for `batch.BatchCache`. Loading the thousandth takes as long as the first:
nothing is hooked into the model and nothing is kept of evicted ones. It knows neither requests nor the base's weights.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.grid import decode, encode
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Misconfigured, Prompt2LoraError, Unavailable, Unfit, readable_now


class AdapterCache:
    """`folder` tells where a version's adapter lies; at most `size` are held, on the base's device, in its dtype or, of
    float32, in 16 bits where they hold the same numbers. `dropped` is told the names of those that had to go."""

    def __init__(
        self,
        layout: LoraLayout,
        config: Any,
        folder: Callable[[Version], Path],
        *,
        size: int,
        dtype: torch.dtype,
        device: torch.device,
        dropped: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.layout, self.config, self.folder, self.size = layout, config, folder, size
        self.dtype, self.device, self.dropped = dtype, device, dropped
        self.loads = self.evictions = 0
        self._held: OrderedDict[str, Float[Tensor, "layers rows cols"]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, version: Version) -> Float[Tensor, "layers rows cols"]:
        """A version's grid. Raises Unfit if it cannot be served, Misconfigured if there is no room for one like it,
        Unavailable if its files cannot be read now."""
        with self._lock:
            if version.name in self._held:
                self._held.move_to_end(version.name)
                return self._held[version.name]
        try:
            with readable_now(version.name):
                adapter = Adapter.load(self.folder(version), self.config)
        except Unavailable:
            raise
        except Prompt2LoraError as error:
            raise Unfit(f"{version.name} cannot be served: {error}") from error
        grid = narrowest(fitted(adapter, self.layout, version.name).to(self.device, self.dtype))
        with self._lock:
            self.loads += 1
            self._held[version.name] = grid
            while len(self._held) > self.size:
                gone, _ = self._held.popitem(last=False)
                self.evictions += 1
                self.dropped(gone)
        return grid


def narrowest(grid: Float[Tensor, "layers rows cols"]) -> Float[Tensor, "layers rows cols"]:
    """The same numbers in as few bytes as hold them: adapters are saved in 16 bits."""
    for dtype in (torch.float16, torch.bfloat16):
        if torch.equal(narrow := grid.to(dtype), grid):
            return narrow
    return grid


def fitted(adapter: Adapter, layout: LoraLayout, name: str) -> Float[Tensor, "layers rows cols"]:
    """An adapter's grid in the form of another layout, its scale folded into B: only W x + B A x is left to compute.

    A lower rank and missing targets are filled with zeros, which change nothing.
    Raises Unfit for what changes nothing, Misconfigured for what is larger.
    """
    own = adapter.layout
    if not adapter.changes_something:
        raise Unfit(f"{name} answers as the base: its updates are all zero; generate it again")
    beyond = [target.name for target in own.targets if target not in layout.targets]
    if own.rank > layout.rank or beyond:
        what = f"adapts {', '.join(beyond)}" if beyond else f"has rank {own.rank}"
        held = ", ".join(target.name for target in layout.targets)
        raise Misconfigured(
            f"{name} {what} and this engine was started for rank {layout.rank} on {held}; start the service again, "
            "which makes room for every version of the registry"
        )
    if (own.rank, own.targets) == (layout.rank, layout.targets):
        scaled = adapter.grid.clone()
        for block in own.blocks[1::2]:
            scaled[:, block.start : block.stop] *= own.scale
        return scaled
    state = {path: torch.zeros_like(tensor) for path, tensor in decode(torch.zeros(layout.shape), layout).items()}
    for path, tensor in decode(adapter.grid, own).items():
        if ".lora_A." in path:
            state[path][: own.rank] = tensor
        else:
            state[path][:, : own.rank] = tensor * own.scale
    return encode(state, layout)
