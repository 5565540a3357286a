"""The running batch's memory: for every row its keys, values and adapter, so that rows come and go one by one.

In: tokens with their positions for a range of rows. Out: logits. A row of another job is a row like any other: its
low-rank factors lie in the same tensor, and a row without an adapter has zeros there, which is the base exactly.
Every row begins at position 0 and is as long as it is, so nothing is padded on the left and no row's arithmetic
depends on its neighbours. It knows neither requests nor jobs nor time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prompt2lora.adapter.grid import Factors, factors
from prompt2lora.adapter.layout import LoraLayout

_FIRST_LENGTH = 128


class Slots:
    """`capacity` rows of at most `context` tokens on one frozen base.

    It hooks itself into the model for good: nobody else may use that model meanwhile.
    """

    def __init__(self, model: Any, layout: LoraLayout, capacity: int, context: int) -> None:
        self.model, self.layout, self.capacity, self.context = model, layout, capacity, context
        parameter = next(model.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        self.grids = torch.zeros(capacity, *layout.shape, dtype=self.dtype, device=self.device)
        # One token a row: on a CPU such products of bfloat16 take four times as long as those of float32.
        fine = self.device.type == "cpu" and self.dtype != torch.float32
        self.fine = torch.zeros_like(self.grids, dtype=torch.float32) if fine else self.grids
        self._kinds_of_grids = [self.grids] if self.fine is self.grids else [self.grids, self.fine]
        self._input: tuple[Tensor | None, Tensor | None] = (None, None)
        self.used = [False] * capacity
        self.length = 0
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self._range, self._positions, self._adapting = (0, 0), torch.empty(0), False
        kinds = getattr(model.config, "layer_types", None)
        self._window = getattr(model.config, "sliding_window", None)
        self._kinds = set(kinds) if kinds else None
        fine_factors = factors(self.fine, layout)
        for path, factor in factors(self.grids, layout).items():
            model.get_submodule(path).register_forward_hook(self._low_rank(factor, fine_factors[path]))

    def _low_rank(self, factor: Factors, fine: Factors) -> Any:
        a, b, fine_a, fine_b = factor.a.mT, factor.b, fine.a.mT, fine.b

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not self._adapting:
                return None
            start, stop = self._range
            if output.shape[1] > 1 or self.fine is self.grids:
                return output.baddbmm_(torch.bmm(inputs[0], a[start:stop]), b[start:stop])
            return output.add_(torch.bmm(torch.bmm(self._finer(inputs[0]), fine_a[start:stop]), fine_b[start:stop]))

        return hook

    def _finer(self, given: Tensor) -> Tensor:
        """A module's input in float32; modules beside each other are given the same one."""
        if self._input[0] is not given:
            self._input = given, given.float()
        found = self._input[1]
        assert found is not None
        return found

    def put(self, slot: int, grid: Tensor | None) -> None:
        """Give a row its adapter, already scaled (`residents.fitted`), or None for the base."""
        for grids in self._kinds_of_grids:
            if grid is not None:
                grids[slot].copy_(grid)
            elif self.used[slot]:
                grids[slot].zero_()
        self.used[slot] = grid is not None

    def move(self, source: int, target: int, length: int) -> None:
        """Row `source`, `length` tokens long, becomes row `target`."""
        if source == target:
            return
        if self.used[source]:
            for grids in self._kinds_of_grids:
                grids[target].copy_(grids[source])
            self.used[target] = True
        else:
            self.put(target, None)
        for held in (*self.keys.values(), *self.values.values()):
            held[target, :, :length] = held[source, :, :length]

    def forward(self, start: int, tokens: Tensor, positions: Tensor, keep: Tensor | int = 1) -> Tensor:
        """Logits (rows, keep, vocabulary) of `tokens` (rows, length) at `positions`, for the rows from `start` on.

        All rows of a longer range than one token begin at the same position.
        """
        stop = start + len(tokens)
        self._range, self._positions = (start, stop), positions
        self._adapting = any(self.used[start:stop])
        longest = int(positions.max()) + 1
        self._reserve(longest)
        logits: Tensor = self.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=self._masks(positions, longest),
            past_key_values=self,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
        return logits

    # What the model asks of a cache

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        start, stop = self._range
        longest = int(self._longest)
        if layer not in self.keys:
            shape = (self.capacity, keys.shape[1], self.length)
            self.keys[layer] = keys.new_zeros(*shape, keys.shape[3])
            self.values[layer] = values.new_zeros(*shape, values.shape[3])
        for held, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if new.shape[2] == 1:
                held[self._rows, :, self._last] = new[:, :, 0]
            else:
                held[start:stop, :, longest - new.shape[2] : longest] = new
        return self.keys[layer][start:stop, :, :longest], self.values[layer][start:stop, :, :longest]

    def get_seq_length(self, _layer: int = 0) -> int:
        return int(self._longest)

    # Inside

    def _reserve(self, longest: int) -> None:
        self._longest = longest
        start, stop = self._range
        self._rows, self._last = torch.arange(start, stop, device=self.device), self._positions[:, -1]
        if longest <= self.length:
            return
        # What nobody sees is weighed with 0, and 0 times what new memory may hold is not always 0: it must be finite.
        grown = self.length or _FIRST_LENGTH
        while grown < longest:
            grown *= 2
        self.length = min(grown, self.context)
        for held in (self.keys, self.values):
            for layer, old in held.items():
                shape = (*old.shape[:2], self.length, old.shape[3])
                held[layer] = old.new_zeros(shape)
                held[layer][:, :, : old.shape[2]] = old

    def _masks(self, positions: Tensor, longest: int) -> Any:
        """Which held tokens a token sees: those up to its own position, and within the window of layers that have one.

        A row's places behind its own end hold what an earlier row left there; nobody sees them.
        """
        place = torch.arange(longest, device=self.device)
        full = place <= positions[..., None]
        near = full & (place > positions[..., None] - self._window) if self._window else full
        if self._kinds:
            return {kind: (near if kind == "sliding_attention" else full)[:, None] for kind in self._kinds}
        return near[:, None]
