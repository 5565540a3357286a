"""One request on its way through the embedded engine: its tokens, the answer so far, and who is waiting for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.base.constraints import Matcher
from prompt2lora.base.sampling import drawn
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.ground.profile import MAX_NEW_TOKENS
from prompt2lora.serving.detokenizer import Detokenizer
from prompt2lora.serving.protocol import Chunk, GenerationRequest, Token


@dataclass
class TokenSequence:
    """`send` hands a chunk, or the error that ends the answer, to whoever waits; `random` is None at temperature 0,
    `matcher` where the answer may be anything."""

    request: GenerationRequest
    version: str  # its name; empty: the base
    prompt_ids: list[int]
    grid: Float[Tensor, "layers rows cols"] | None
    send: Callable[[Chunk | Prompt2LoraError], None]
    detokenizer: Detokenizer
    random: torch.Generator | None
    matcher: Matcher | None = None
    length: int = 0  # tokens in the batch cache
    cached: int = 0  # tokens of the prompt that were there before
    cancelled: bool = False
    _unsent: list[str] = field(default_factory=list)
    _tokens: list[Token] = field(default_factory=list)

    @property
    def max_new_tokens(self) -> int:
        return self.request.sampling.max_new_tokens or MAX_NEW_TOKENS

    def choose(self, likeliest: int, logits: Float[Tensor, " vocabulary"]) -> int:
        """The next token, of those that the form allows: the likeliest, or drawn by temperature from the likeliest that
        together hold top_p. Raises Unavailable if the answer cannot be held to its form."""
        if self.matcher:
            logits = logits.masked_fill(~self.matcher.mask(len(logits)).to(logits.device), -torch.inf)
            likeliest = int(logits.argmax())
        token = likeliest if self.random is None else self._drawn(logits, self.random)
        if self.request.logprobs is not None:
            self._tokens.append(self._told(token, logits.float().log_softmax(-1), self.request.logprobs))
        return token

    def follow(self, token: int) -> bool:
        """Whether nothing can follow this token of the answer but its end."""
        if self.matcher is None:
            return False
        self.matcher.accept(token)
        return self.matcher.complete

    def _drawn(self, logits: Float[Tensor, " vocabulary"], random: torch.Generator) -> int:
        sampling = self.request.sampling
        return drawn(logits, sampling.temperature, sampling.top_p, random)

    def _told(self, token: int, likelihoods: Float[Tensor, " vocabulary"], beside: int) -> Token:
        best = likelihoods.topk(min(beside, len(likelihoods)))
        likeliest = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        read = self.detokenizer.read_alone
        others = tuple((read(one), likelihood) for one, likelihood in likeliest if likelihood > -math.inf)
        return Token(read(token), float(likelihoods[token]), others)

    def deliver(self, text: str, finish_reason: str | None) -> None:
        """Send what is due: every text of a stream at once, otherwise everything in one chunk at the end."""
        if finish_reason or (text and self.request.stream):
            whole = "".join([*self._unsent, text])
            counts = len(self.prompt_ids), len(self.detokenizer.ids)
            self.send(Chunk(whole, *counts, finish_reason, tuple(self._tokens), self.cached))
            self._tokens.clear()
        elif text:
            self._unsent.append(text)
