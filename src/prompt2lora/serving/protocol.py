"""What an engine is asked and what it answers: values, and the one protocol that every engine keeps.

It knows neither HTTP nor torch: the gateway talks to the embedded engine, to llama.cpp's server, to vLLM servers and
to a Ray cluster in the same terms.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from prompt2lora.custody.versions import Version
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.pictures import Prompt

STOP, LENGTH = "stop", "length"


class Message(NamedTuple):
    role: str
    content: Prompt


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen. Temperature 0 takes the likeliest one: what a pilot measures is then what answers.

    seed              makes sampling at a temperature repeatable
    max_new_tokens    most tokens of the answer; None: MAX_NEW_TOKENS, or fewer where the prompt leaves room for fewer
    stop              texts that end the answer and are not part of it
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class GenerationRequest:
    """A conversation in the base's chat format, or (without messages) `text` exactly as given.

    job       whose quota it counts against
    seconds   how long it may take, including the time in the queue; `within` sees to it, whatever the engine
    stream    whether chunks are wanted as they come, or the whole answer in one chunk
    form      what the answer has to be; None: anything
    scored    whether the last chunk tells how likely the answer was
    """

    job: str
    messages: tuple[Message, ...] = ()
    text: str = ""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    seconds: float = 120.0
    stream: bool = False
    form: AnswerForm | None = None
    scored: bool = False


class Chunk(NamedTuple):
    """A part of an answer; the last one says why it ended, and of a scored request the log-probability of every token
    of the answer, and of its end, among those that its form allows. Of the tokens of the prompt `cached_tokens` were
    not read for this request: an earlier one of the same version began with them."""

    text: str
    prompt_tokens: int
    completion_tokens: int  # so far
    finish_reason: str | None = None
    log_probabilities: tuple[float, ...] = ()
    cached_tokens: int = 0


async def joined(chunks: AsyncGenerator[Chunk]) -> tuple[str, Chunk]:
    """The whole text of an answer, and its last chunk; the answer is closed, however this ends."""
    text, last = "", Chunk("", 0, 0)
    async with aclosing(chunks):
        async for last in chunks:
            text += last.text
    return text, last


class Engine(Protocol):
    """Answers with a version of a job, or (None) with the base.

    `answer` raises Unfit if the version itself cannot be served, Misconfigured if this engine was not started for it,
    UsageError for a request that no engine could answer,
    Busy or Unavailable for one that this engine cannot answer now. Closing the iterator early cancels it.
    """

    @property
    def base(self) -> str: ...

    def answer(self, version: Version | None, request: GenerationRequest) -> AsyncIterator[Chunk]: ...

    async def reconcile(self, versions: Sequence[Version]) -> object:
        """Hold what is released, before anybody asks for it; asked for again and again. What comes back is for those
        who know the engine."""
        ...

    async def ready(self) -> bool: ...

    def stats(self) -> dict[str, int | float]:
        """Figures for /metrics; names that end in `_total` only ever grow."""
        ...

    async def close(self, seconds: float) -> None:
        """Take no new requests, finish the running ones within so many seconds, refuse the rest."""
        ...
