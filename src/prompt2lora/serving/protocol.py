"""What is asked of an engine and what comes back: values, and the one protocol that every engine keeps.

It knows neither HTTP nor torch: the gateway talks to an embedded engine and to a rack of other servers in the same
words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from prompt2lora.custody.registry import Version

STOP, LENGTH = "stop", "length"


class Message(NamedTuple):
    role: str
    content: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are picked. Temperature 0 takes the likeliest: what a pilot measures is then what answers.

    longest   most tokens of the answer
    seed      makes an answer with a temperature repeatable
    stop      texts that end the answer and are not part of it
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    longest: int = 128
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ask:
    """One question: a conversation in the base's chat format, or (without messages) `text` as it stands.

    job       whose quota it counts against
    seconds   how long it may take, the wait for its turn included
    stream    whether pieces are wanted as they come, or the whole answer in one piece
    """

    job: str
    messages: tuple[Message, ...] = ()
    text: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    seconds: float = 120.0
    stream: bool = False


class Piece(NamedTuple):
    """A part of an answer; the last one says why it ended."""

    text: str
    prompt_tokens: int
    tokens: int  # of the answer so far
    finish: str | None = None


class Engine(Protocol):
    """Answers with a version of a job, or (None) with the base.

    `answer` raises Unfit if the version itself cannot be served, UsageError for an ask that no engine could answer,
    Busy, TooLate or Unavailable for one that this engine cannot answer now. Leaving the iterator early cancels it.
    """

    @property
    def base(self) -> str: ...

    def answer(self, version: Version | None, ask: Ask) -> AsyncIterator[Piece]: ...

    async def ready(self) -> bool: ...

    def figures(self) -> dict[str, float]:
        """What is going on inside, for /metrics."""
        ...

    async def close(self, seconds: float) -> None:
        """Take nothing new, finish what runs within so many seconds, refuse the rest."""
        ...
