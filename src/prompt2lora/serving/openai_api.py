"""The interface that every tool speaks: chat completions, completions and models as OpenAI documents them.

In: HTTP requests whose `model` names a job. Out: answers of the version that the registry has released for that job at
this moment, and which one that was (`x-prompt2lora-release`, `system_fingerprint`). A job that is not known is an
error, never the base in disguise. What cannot be honoured is refused by name.
Source of the fields: https://platform.openai.com/docs/api-reference.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from prompt2lora.custody.registry import Release
from prompt2lora.errors import Busy, Prompt2LoraError, Unfit, UsageError
from prompt2lora.serving.guard import Gate, Refused, failure, note_of
from prompt2lora.serving.protocol import Ask, Message, Piece, Sampling
from prompt2lora.serving.refusals import ERRORS, told
from prompt2lora.serving.service import Service

RELEASE = "x-prompt2lora-release"
_TIMEOUT = "x-prompt2lora-timeout"
_TEXT = 200_000  # most characters of one text
Text = Annotated[str, Field(max_length=_TEXT)]
JobName = Annotated[str, Field(min_length=1, max_length=200)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(min_length=1, max_length=100)]
    name: Annotated[str, Field(max_length=200)] | None = None

    def plain(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]


class Asked(BaseModel):
    """What both kinds of request have; every other field is refused."""

    model_config = ConfigDict(extra="forbid")
    model: JobName
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    stop: (
        Annotated[str, Field(min_length=1, max_length=200)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=4)]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**53), le=2**53)] | None = None
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    user: Annotated[str, Field(max_length=500)] | None = None

    def sampling(self, longest: int | None) -> Sampling:
        """Without a temperature the likeliest answer is given: what a pilot measured is then what answers."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            longest=longest or Sampling.longest,
            stop=tuple(stops),
        )


class ChatRequest(Asked):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=200)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    response_format: ResponseFormat | None = None
    logprobs: Literal[False] | None = None

    def ask(self, seconds: float) -> Ask:
        return Ask(
            self.model,
            tuple(message.plain() for message in self.messages),
            sampling=self.sampling(self.max_completion_tokens or self.max_tokens),
            seconds=seconds,
            stream=bool(self.stream),
        )


class TextRequest(Asked):
    prompt: Annotated[str, Field(min_length=1, max_length=_TEXT)]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None
    logprobs: None = None

    def ask(self, seconds: float) -> Ask:
        return Ask(
            self.model,
            text=self.prompt,
            sampling=self.sampling(self.max_tokens),
            seconds=seconds,
            stream=bool(self.stream),
        )


class Quota:
    """At most so many questions of one job at once."""

    def __init__(self, most: int) -> None:
        self._most, self._running = most, Counter[str]()

    @contextmanager
    def place(self, job: str) -> Iterator[None]:
        if self._running[job] >= self._most:
            raise Busy(f"{self._most} questions of the job {job} are being answered already; ask again in a moment")
        self._running[job] += 1
        try:
            yield
        finally:
            self._running[job] -= 1
            if not self._running[job]:
                del self._running[job]


def fingerprint(release: Release) -> str:
    """Which release answered, in one word."""
    return f"{release.id}:{release.version.name if release.version else f'{release.job}@base'}"


def router(service: Service, gate: Gate) -> APIRouter:
    made = APIRouter(prefix="/v1", tags=["inference"], dependencies=[Depends(gate.asking)], responses=ERRORS)
    quota = Quota(service.limits.per_job)

    @made.post("/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Any:
        """Answer a conversation by the job that `model` names."""
        form = _Form("chat.completion", asked, request)
        return await _answer(service, quota, asked.ask(_seconds(service, request)), form)

    @made.post("/completions")
    async def complete(asked: TextRequest, request: Request) -> Any:
        """Go on with a text as it stands, by the job that `model` names."""
        form = _Form("text_completion", asked, request)
        return await _answer(service, quota, asked.ask(_seconds(service, request)), form)

    @made.get("/models")
    def models() -> dict[str, Any]:
        """All jobs that have a release."""
        registry = service.plant.registry
        found = [(job, registry.current(job)) for job in registry.jobs()]
        return {"object": "list", "data": [_model(release) for _, release in found if release]}

    @made.get("/models/{model}")
    def model(model: Annotated[str, Path(max_length=200)]) -> dict[str, Any]:
        """One job and what answers it."""
        return _model(_released(service, model))

    return made


class _Form:
    """How one kind of answer looks, whole and in pieces."""

    def __init__(self, kind: str, asked: Asked, request: Request) -> None:
        self.kind, self.request, self.job = kind, request, asked.model
        self.stream = bool(asked.stream)
        self.usage = bool(asked.stream_options and asked.stream_options.include_usage)
        self.id = f"{'chatcmpl' if kind == 'chat.completion' else 'cmpl'}-{note_of(request).request}"
        self.begun = False

    def frame(self, release: Release, choices: list[dict[str, Any]], kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": int(time.time()),
            "model": self.job,
            "system_fingerprint": fingerprint(release),
            "choices": choices,
        }

    def whole(self, release: Release, text: str, last: Piece) -> dict[str, Any]:
        body = (
            {"message": {"role": "assistant", "content": text, "refusal": None}}
            if self.kind == "chat.completion"
            else {"text": text}
        )
        choice = {"index": 0, **body, "logprobs": None, "finish_reason": last.finish}
        return {**self.frame(release, [choice], self.kind), "usage": _usage(last)}

    def pieces(self, release: Release, piece: Piece) -> Iterator[dict[str, Any]]:
        if self.kind == "chat.completion":
            kind, key = "chat.completion.chunk", "delta"
            body: Any = {**({} if self.begun else {"role": "assistant"}), "content": piece.text}
            self.begun = True
        else:
            kind, key, body = "text_completion", "text", piece.text
        choice = {"index": 0, key: body, "logprobs": None, "finish_reason": piece.finish}
        usage = {"usage": None} if self.usage else {}
        yield {**self.frame(release, [choice], kind), **usage}
        if piece.finish and self.usage:
            yield {**self.frame(release, [], kind), "usage": _usage(piece)}


async def _answer(service: Service, quota: Quota, ask: Ask, form: _Form) -> Any:
    note = note_of(form.request)
    release = await asyncio.to_thread(_released, service, ask.job)
    note.job, note.release = ask.job, fingerprint(release)
    note.version = release.version.name if release.version else f"{ask.job}@base"
    headers = {RELEASE: fingerprint(release)}
    if form.stream:
        pieces = _counted(service, quota, release, ask, form.request)
        first = await _unless_gone(form.request, anext(pieces))  # what is refused is refused before the answer begins
        return StreamingResponse(_events(form, release, first, pieces), media_type="text/event-stream", headers=headers)

    async def whole() -> tuple[str, Piece]:
        text = ""
        async with aclosing(_counted(service, quota, release, ask, form.request)) as pieces:
            async for piece in pieces:
                text += piece.text
        return text, piece

    text, last = await _unless_gone(form.request, whole())
    return JSONResponse(form.whole(release, text, last), headers=headers)


async def _counted(
    service: Service, quota: Quota, release: Release, ask: Ask, request: Request
) -> AsyncGenerator[Piece]:
    """The pieces of an answer within the job's quota; a version that cannot be served is taken back."""
    note = note_of(request)
    try:
        with quota.place(ask.job):
            async with aclosing(service.engine.answer(release.version, ask)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    note.prompt_tokens, note.answer_tokens = piece.prompt_tokens, piece.tokens
                    yield piece
    except Unfit:
        await asyncio.to_thread(service.take_back, release)
        raise


async def _events(form: _Form, release: Release, first: Piece, rest: AsyncGenerator[Piece]) -> AsyncGenerator[str]:
    async with aclosing(rest):
        try:
            for event in form.pieces(release, first):
                yield _event(event)
            async for piece in rest:
                for event in form.pieces(release, piece):
                    yield _event(event)
        except Prompt2LoraError as error:
            status, code, _ = told(error)
            yield _event(failure(status, str(error), code))
            return
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def _unless_gone(request: Request, work: Awaitable[Any]) -> Any:
    """What comes of the work, which is cancelled as soon as nobody waits for it any more."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, left = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for one in (task, left):
            one.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await one


def _seconds(service: Service, request: Request) -> float:
    """How long an answer may take: what the client says, but no longer than the service allows."""
    given, most = request.headers.get(_TIMEOUT), service.limits.seconds
    if given is None:
        return most
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise Refused(400, f"{_TIMEOUT} is a number of seconds, not {given[:40]!r}", "invalid_timeout")
    return min(seconds, most)


def _released(service: Service, job: str) -> Release:
    try:
        return service.release(job)
    except UsageError as error:
        raise Refused(404, str(error), "model_not_found") from error


def _model(release: Release) -> dict[str, Any]:
    return {
        "id": release.job,
        "object": "model",
        "created": 0,
        "owned_by": "prompt2lora",
        "release": fingerprint(release),
    }


def _usage(piece: Piece) -> dict[str, int]:
    return {
        "prompt_tokens": piece.prompt_tokens,
        "completion_tokens": piece.tokens,
        "total_tokens": piece.prompt_tokens + piece.tokens,
    }
