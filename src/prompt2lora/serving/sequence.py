"""One request on its way through the embedded engine: its tokens, the answer so far, and who is waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.errors import Prompt2LoraError
from prompt2lora.serving.detokenizer import Detokenizer
from prompt2lora.serving.protocol import MAX_NEW_TOKENS, Chunk, GenerationRequest


@dataclass
class TokenSequence:
    """`send` hands a chunk, or the error that ends the answer, to whoever waits; `random` is None at temperature 0."""

    request: GenerationRequest
    prompt_ids: list[int]
    grid: Float[Tensor, "layers rows cols"] | None
    deadline: float
    send: Callable[[Chunk | Prompt2LoraError], None]
    detokenizer: Detokenizer
    random: torch.Generator | None
    length: int = 0  # tokens in the batch cache
    cancelled: bool = False
    _unsent: list[str] = field(default_factory=list)

    @property
    def max_new_tokens(self) -> int:
        return self.request.sampling.max_new_tokens or MAX_NEW_TOKENS

    def choose(self, likeliest: int, logits: Float[Tensor, " vocabulary"]) -> int:
        """The next token: the likeliest, or drawn by temperature from the likeliest that together hold top_p."""
        if self.random is None:
            return likeliest
        sampling = self.request.sampling
        likely, order = (logits.float().cpu() / sampling.temperature).softmax(-1).sort(descending=True)
        likely[likely.cumsum(0) - likely >= sampling.top_p] = 0
        return int(order[torch.multinomial(likely, 1, generator=self.random)])

    def deliver(self, text: str, finish_reason: str | None) -> None:
        """Send what is due: every text of a stream at once, otherwise everything in one chunk at the end."""
        if finish_reason or (text and self.request.stream):
            whole = "".join([*self._unsent, text])
            self.send(Chunk(whole, len(self.prompt_ids), len(self.detokenizer.ids), finish_reason))
        elif text:
            self._unsent.append(text)
