"""The running batch's memory: every sequence's keys, values and adapter, so that sequences come and go one by one.

In: tokens with their positions for a range of sequences. Out: logits. Sequences of different jobs share one batch:
their low-rank factors lie in one tensor, and a sequence without an adapter has zeros there, which is exactly the base.
Every sequence starts at position 0, so nothing is padded on the left and no sequence's arithmetic depends on its
neighbours. It knows neither requests nor jobs nor time.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from prompt2lora.adapter.grid import Factors, factors
from prompt2lora.adapter.layout import LoraLayout

_FIRST_LENGTH = 128
Held = Float[Tensor, "sequences heads length width"]


class BatchCache:
    """`capacity` sequences of at most `context_length` tokens on one frozen base.

    It hooks itself into the model for good: nothing else may use that model meanwhile.
    """

    def __init__(self, model: Any, layout: LoraLayout, capacity: int, context_length: int) -> None:
        self.model, self.layout, self.capacity, self.context_length = model, layout, capacity, context_length
        parameter = next(model.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        self.grids: Float[Tensor, "batch layers rows cols"] = torch.zeros(
            capacity, *layout.shape, dtype=self.dtype, device=self.device
        )
        # Decoding, one token a sequence: on a CPU such products take four times as long in bfloat16 as in float32.
        separate = self.device.type == "cpu" and self.dtype != torch.float32
        self.decoding_grids = torch.zeros_like(self.grids, dtype=torch.float32) if separate else self.grids
        self._all_grids = [self.grids, self.decoding_grids] if separate else [self.grids]
        self._float_input: tuple[Tensor | None, Tensor | None] = (None, None)
        self.has_adapter = [False] * capacity
        self.allocated = 0  # tokens of memory for every sequence
        self.keys: dict[int, Held] = {}
        self.values: dict[int, Held] = {}
        self._range, self._positions, self._adapting = (0, 0), torch.empty(0), False
        config = model.config.get_text_config()
        kinds = getattr(config, "layer_types", None)
        self._window = getattr(config, "sliding_window", None)
        self._kinds = set(kinds) if kinds else None
        decoding_factors = factors(self.decoding_grids, layout)
        for path, factor in factors(self.grids, layout).items():
            model.get_submodule(path).register_forward_hook(self._low_rank(factor, decoding_factors[path]))

    def _low_rank(self, factor: Factors, decoding: Factors) -> Any:
        a, b, decoding_a, decoding_b = factor.a.mT, factor.b, decoding.a.mT, decoding.b

        def hook(
            _module: nn.Module,
            inputs: tuple[Float[Tensor, "sequences length in"]],
            output: Float[Tensor, "sequences length out"],
        ) -> Float[Tensor, "sequences length out"] | None:
            if not self._adapting:
                return None
            start, stop = self._range
            if output.shape[1] > 1 or self.decoding_grids is self.grids:
                return output.baddbmm_(torch.bmm(inputs[0], a[start:stop]), b[start:stop])
            low = torch.bmm(self._in_float32(inputs[0]), decoding_a[start:stop])
            return output.add_(torch.bmm(low, decoding_b[start:stop]))

        return hook

    def _in_float32(self, given: Float[Tensor, "sequences length in"]) -> Float[Tensor, "sequences length in"]:
        """A module's input in float32; modules side by side are given the same one."""
        if self._float_input[0] is not given:
            self._float_input = given, given.float()
        found = self._float_input[1]
        assert found is not None
        return found

    def set_adapter(self, place: int, grid: Float[Tensor, "layers rows cols"] | None) -> None:
        """Give a sequence its adapter, already scaled (`adapter_cache.fitted`), or None for the base."""
        for grids in self._all_grids:
            if grid is not None:
                grids[place].copy_(grid)
            elif self.has_adapter[place]:
                grids[place].zero_()
        self.has_adapter[place] = grid is not None

    def move(self, source: int, target: int, length: int) -> None:
        """The sequence at `source`, `length` tokens long, moves to `target`."""
        if source == target:
            return
        if self.has_adapter[source]:
            for grids in self._all_grids:
                grids[target].copy_(grids[source])
            self.has_adapter[target] = True
        else:
            self.set_adapter(target, None)
        for held in (*self.keys.values(), *self.values.values()):
            held[target, :, :length] = held[source, :, :length]

    def forward(
        self,
        start: int,
        tokens: Int[Tensor, "sequences length"],
        positions: Int[Tensor, "sequences length"],
        keep: Int[Tensor, " kept"] | int = 1,
    ) -> Float[Tensor, "sequences kept vocabulary"]:
        """Logits of `tokens` at `positions`, for the sequences from `start` on.

        Where more than one token a sequence is given, all of them begin at the same position.
        """
        stop = start + len(tokens)
        self._range, self._positions = (start, stop), positions
        self._adapting = any(self.has_adapter[start:stop])
        length = int(positions.max()) + 1
        self._reserve(length)
        logits: Tensor = self.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=self._masks(positions, length),
            past_key_values=self,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
        return logits

    # What the model asks of a cache

    def update(
        self,
        keys: Float[Tensor, "sequences heads new width"],
        values: Float[Tensor, "sequences heads new value_width"],
        layer: int,
        *_: Any,
        **__: Any,
    ) -> tuple[Float[Tensor, "sequences heads length width"], Float[Tensor, "sequences heads length value_width"]]:
        """Keep what is new of a layer; all keys and values of the sequences that are running now."""
        start, stop = self._range
        length = self._length
        if layer not in self.keys:
            shape = (self.capacity, keys.shape[1], self.allocated)
            self.keys[layer] = keys.new_zeros(*shape, keys.shape[3])
            self.values[layer] = values.new_zeros(*shape, values.shape[3])
        for held, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if new.shape[2] == 1:
                held[self._places, :, self._last] = new[:, :, 0]
            else:
                held[start:stop, :, length - new.shape[2] : length] = new
        return self.keys[layer][start:stop, :, :length], self.values[layer][start:stop, :, :length]

    def get_seq_length(self, _layer: int = 0) -> int:
        return self._length

    # Inside

    def _reserve(self, length: int) -> None:
        self._length = length
        start, stop = self._range
        self._places, self._last = torch.arange(start, stop, device=self.device), self._positions[:, -1]
        if length <= self.allocated:
            return
        # What is masked is weighed with 0, and 0 times what new memory may hold is not always 0: it must be finite.
        grown = self.allocated or _FIRST_LENGTH
        while grown < length:
            grown *= 2
        self.allocated = min(grown, self.context_length)
        for held in (self.keys, self.values):
            for layer, old in held.items():
                shape = (*old.shape[:2], self.allocated, old.shape[3])
                held[layer] = old.new_zeros(shape)
                held[layer][:, :, : old.shape[2]] = old

    def _masks(
        self, positions: Int[Tensor, "sequences new"], length: int
    ) -> Bool[Tensor, "sequences 1 new length"] | dict[str, Bool[Tensor, "sequences 1 new length"]]:
        """Which tokens a token sees: those up to its own position, and within the window of layers that have one.

        Places beyond a sequence's end hold what an earlier sequence left there; they are masked.
        """
        place = torch.arange(length, device=self.device)
        full = place <= positions[..., None]
        near = full & (place > positions[..., None] - self._window) if self._window else full
        if self._kinds:
            return {kind: (near if kind == "sliding_attention" else full)[:, None] for kind in self._kinds}
        return near[:, None]
