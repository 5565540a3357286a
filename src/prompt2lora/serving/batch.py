"""The running batch: every sequence's adapter beside its keys and values, so that sequences come and go one by one.

In: tokens that sequences read. Out: logits. Sequences of different jobs share one batch, and new prompts are read
beside the next tokens of the others, so that the base's weights are read once for all. Every sequence starts at
position 0 and none is padded, so no sequence's arithmetic depends on its neighbours. It knows neither requests nor
jobs nor time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.attention import Windows
from prompt2lora.serving.attention import attend_in_pieces
from prompt2lora.serving.key_values import KeyValues, Part
from prompt2lora.serving.low_rank import LowRank

_ROUND = 16  # in bfloat16, rows are filled up to this: kernels are built anew for every new shape


class BatchCache:
    """`capacity` sequences of at most `context_length` tokens on one frozen base.

    It hooks itself into the model for good: nothing else may use that model meanwhile.
    """

    def __init__(self, model: Any, layout: LoraLayout, capacity: int, context_length: int) -> None:
        self.model = model
        parameter = next(model.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        self.adapters = LowRank(model, layout, capacity)
        self.held = KeyValues(capacity, context_length)
        self._windows = Windows.of(model)
        attend_in_pieces(model)

    def move(self, source: int, target: int, length: int) -> None:
        """The sequence at `source`, `length` tokens long, moves to `target`."""
        if source != target:
            self.adapters.move(source, target)
            self.held.move(source, target, length)

    def read(self, parts: Sequence[Part]) -> Float[Tensor, "parts vocabulary"]:
        """Logits after the last token of every part. Sequences that read one token each come first, those at the first
        places in their order."""
        ends = list(accumulate(len(part.tokens) for part in parts))
        alone = self.held.expect(parts)
        self.adapters.expect(alone, [(part.place, len(part.tokens)) for part in parts[alone:]])
        filling = 0 if self.dtype == torch.float32 or alone == len(parts) else -ends[-1] % _ROUND
        ids = [token for part in parts for token in part.tokens] + [0] * filling
        positions = [at for part in parts for at in range(part.start, part.end)] + [0] * filling
        row, at = (torch.tensor(numbers, device=self.device) for numbers in (ids, positions))
        keys = torch.arange(self.held.get_seq_length(), device=self.device)
        seen = keys <= at[:, None]  # of its own sequence; behind lies what an earlier one left there
        logits: Tensor = self.model(
            input_ids=row[None],
            position_ids=at[None],
            attention_mask=self._windows.masks(seen[None, None], at, keys),
            past_key_values=self.held,
            use_cache=True,
            logits_to_keep=torch.tensor(ends, device=self.device) - 1,
        ).logits
        return logits[0]
