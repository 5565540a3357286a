"""Drawing the next token: by temperature, out of the likeliest that together hold top_p.

In: logits and a random generator. Out: a token. The same seed draws the same tokens, whatever else is in the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Sampling(NamedTuple):
    """How answers are drawn; `seed` and an answer's number in its call make them repeatable."""

    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0

    def generators(self, count: int) -> list[torch.Generator]:
        """One for each of `count` answers."""
        return [torch.Generator().manual_seed(self.seed * 1_000_003 + number) for number in range(count)]


_LOWEST = 1e-5  # temperature; all below it take the likeliest token, too


def drawn(logits: Float[Tensor, " vocabulary"], temperature: float, top_p: float, random: torch.Generator) -> int:
    """A token, the likeliest at least, however small temperature and top_p are."""
    likely, order = (logits.float().cpu() / max(temperature, _LOWEST)).softmax(-1).sort(descending=True)
    beyond = likely.cumsum(0) - likely >= top_p
    likely[1:][beyond[1:]] = 0
    return int(order[torch.multinomial(likely, 1, generator=random)])
