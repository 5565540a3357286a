"""What an engine is asked and what it answers: values, and the one protocol that every engine keeps.

It knows neither HTTP nor torch: the gateway talks to the embedded engine, to llama.cpp's server, to vLLM servers and
to a Ray cluster in the same terms.
"""

from __future__ import annotations

import asyncio
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
    logprobs  how many of the likeliest tokens are told beside every token of the answer and its log-probability;
              None: no token is told. An engine that tells none (`Engine.tells_tokens`) passes this over
    """

    job: str
    messages: tuple[Message, ...] = ()
    text: str = ""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    seconds: float = 120.0
    stream: bool = False
    form: AnswerForm | None = None
    logprobs: int | None = None


class Token(NamedTuple):
    """A token that was chosen, and the likeliest ones in its place with theirs: log-probabilities (natural logarithm)
    among the tokens that the answer's form allows, whatever the temperature. The token that ends an answer has no
    text; one that is a part of a character has U+FFFD."""

    text: str
    log_probability: float
    likeliest: tuple[tuple[str, float], ...] = ()


class Chunk(NamedTuple):
    """A part of an answer; the last one says why it ended. `tokens` are those chosen since the chunk before, if the
    request asked for them. Of the tokens of the prompt `cached_tokens` were not read for this request: an earlier one
    of the same version began with them."""

    text: str
    prompt_tokens: int
    completion_tokens: int  # so far
    finish_reason: str | None = None
    tokens: tuple[Token, ...] = ()
    cached_tokens: int = 0

    def then(self, following: Chunk) -> Chunk:
        """Both as one."""
        return following._replace(text=self.text + following.text, tokens=self.tokens + following.tokens)


async def joined(chunks: AsyncGenerator[Chunk]) -> Chunk:
    """A whole answer as one chunk; its chunks are closed, however this ends."""
    whole = Chunk("", 0, 0)
    async with aclosing(chunks):
        async for chunk in chunks:
            whole = whole.then(chunk)
    return whole


async def as_they_come(answers: Sequence[AsyncGenerator[Chunk]]) -> AsyncGenerator[tuple[int, Chunk]]:
    """The chunks of several answers, each with the number of its answer, once every answer has begun; all are closed,
    however this ends. Raises what one of them raises."""
    awaited = {asyncio.ensure_future(anext(answer, None)): number for number, answer in enumerate(answers)}
    begun = asyncio.FIRST_EXCEPTION
    try:
        while awaited:
            done, _ = await asyncio.wait(awaited, return_when=begun)
            begun = asyncio.FIRST_COMPLETED
            for task in sorted(done, key=lambda one: one.exception() is None):  # what is refused comes before chunks
                chunk, number = task.result(), awaited.pop(task)
                if chunk is not None:
                    awaited[asyncio.ensure_future(anext(answers[number], None))] = number
                    yield number, chunk
    finally:
        for task in awaited:
            task.cancel()
        await asyncio.gather(*awaited, return_exceptions=True)
        for answer in answers:
            await answer.aclose()


class Engine(Protocol):
    """Answers with a version of a job, or (None) with the base.

    `answer` raises Unfit if the version itself cannot be served, Misconfigured if this engine was not started for it,
    UsageError for a request that no engine could answer,
    Busy or Unavailable for one that this engine cannot answer now. Closing the iterator early cancels it.
    """

    @property
    def base(self) -> str: ...

    @property
    def tells_tokens(self) -> bool:
        """Whether its chunks tell tokens where a request asks for them."""
        ...

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
