"""The running batch: every sequence's adapter beside its keys and values, so that sequences come and go one by one.

In: tokens that sequences read. Out: logits. Sequences of different jobs share one batch: their low-rank factors lie in
one tensor, and a sequence without an adapter has zeros there, which is exactly the base. Every sequence starts at
position 0 and nothing is padded, so no sequence's arithmetic depends on its neighbours. It knows neither requests nor
jobs nor time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.attention import Windows
from prompt2lora.serving.key_values import KeyValues, Part

_ROUND = 16  # in bfloat16, rows are filled up to this: kernels are built anew for every new shape


class BatchCache:
    """`capacity` sequences of at most `context_length` tokens on one frozen base.

    It hooks itself into the model for good: nothing else may use that model meanwhile.
    """

    def __init__(self, model: Any, layout: LoraLayout, capacity: int, context_length: int) -> None:
        self.model, self.layout, self.capacity = model, layout, capacity
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
        self.held = KeyValues(capacity, context_length)
        self._spans: list[tuple[int, int, int]] = []  # (place, begin, end) of what is adapted in a row of parts
        self._range: tuple[int, int] | None = None  # places that are adapted, one token each
        self._windows = Windows.of(model)
        decoding_factors = factors(self.decoding_grids, layout)
        for path, (a, b) in factors(self.grids, layout).items():
            decoding_a, decoding_b = decoding_factors[path]
            hook = partial(self._add_low_rank, a.mT, b, decoding_a.mT, decoding_b)
            model.get_submodule(path).register_forward_hook(hook)

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
        self.held.move(source, target, length)

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Float[Tensor, "sequences vocabulary"]:
        """Logits after one more token of each of the first sequences, as many as there are tokens."""
        each = zip(positions, tokens, strict=True)
        parts = [Part(place, position, [token]) for place, (position, token) in enumerate(each)]
        adapted = any(self.has_adapter[: len(parts)])
        self._spans, self._range = [], (0, len(parts)) if adapted else None
        self.held.expect(parts, in_a_row=False)
        at = torch.tensor([[part.start] for part in parts], device=self.device)
        keys = torch.arange(self.held.get_seq_length(), device=self.device)
        ids = torch.tensor([part.tokens for part in parts], device=self.device)
        seen = (keys <= at)[:, None, None]  # behind lies what an earlier sequence left there
        return self._logits(ids, at, self._windows.masks(seen, at[:, None], keys), 1)[:, 0]

    def read(self, parts: Sequence[Part]) -> Float[Tensor, "parts vocabulary"]:
        """Logits after the last token of every part; all parts stand in one row, one after the other."""
        ends = list(accumulate(len(part.tokens) for part in parts))
        spans = zip(parts, pairwise((0, *ends)), strict=True)
        self._spans = [(part.place, *span) for part, span in spans if self.has_adapter[part.place]]
        self._range = None
        self.held.expect(parts, in_a_row=True)
        filling = 0 if self.dtype == torch.float32 else -ends[-1] % _ROUND
        # Filling is a further look at the first token of the first part: nobody sees it and it sees something.
        ids = [token for part in parts for token in part.tokens] + [0] * filling
        owners = [number for number, part in enumerate(parts) for _ in part.tokens] + [0] * filling
        positions = [at for part in parts for at in range(part.start, part.end)] + [0] * filling
        key_owners = [number for number, part in enumerate(parts) for _ in range(part.end)]
        key_positions = [at for part in parts for at in range(part.end)]
        row, owner, at, key_owner, key_at = (
            torch.tensor(numbers, device=self.device) for numbers in (ids, owners, positions, key_owners, key_positions)
        )
        own = (owner[:, None] == key_owner) & (key_at <= at[:, None])
        masks = self._windows.masks(own[None, None], at, key_at)
        lasts = torch.tensor(ends, device=self.device) - 1
        return self._logits(row[None], at[None], masks, lasts)[0]

    # Inside

    def _logits(
        self,
        ids: Int[Tensor, "rows length"],
        positions: Int[Tensor, "rows length"],
        masks: Any,
        keep: Int[Tensor, " kept"] | int,
    ) -> Float[Tensor, "rows kept vocabulary"]:
        logits: Tensor = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=masks,
            past_key_values=self.held,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
        return logits

    def _add_low_rank(
        self,
        a: Float[Tensor, "batch width rank"],
        b: Float[Tensor, "batch rank out"],
        decoding_a: Float[Tensor, "batch width rank"],
        decoding_b: Float[Tensor, "batch rank out"],
        _module: nn.Module,
        inputs: tuple[Float[Tensor, "rows length width"]],
        output: Float[Tensor, "rows length out"],
    ) -> Float[Tensor, "rows length out"] | None:
        """Add to what a module gave what the adapters of these sequences add."""
        for place, begin, end in self._spans:
            output[0, begin:end].addmm_(inputs[0][0, begin:end] @ a[place], b[place])
        if self._range:
            start, stop = self._range
            if self.decoding_grids is self.grids:
                return output.baddbmm_(torch.bmm(inputs[0], a[start:stop]), b[start:stop])
            low = torch.bmm(self._in_float32(inputs[0]), decoding_a[start:stop])
            return output.add_(torch.bmm(low, decoding_b[start:stop]))
        return None

    def _in_float32(self, given: Float[Tensor, "sequences length in"]) -> Float[Tensor, "sequences length in"]:
        """A module's input in float32; modules side by side are given the same one."""
        if self._float_input[0] is not given:
            self._float_input = given, given.float()
        found = self._float_input[1]
        assert found is not None
        return found
