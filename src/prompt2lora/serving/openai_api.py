"""The API that every tool speaks: chat completions, completions and models, as OpenAI documents them.

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
from prompt2lora.serving.guard import Authenticator, Refused, failure, record_of
from prompt2lora.serving.protocol import Chunk, GenerationRequest, Message, Sampling
from prompt2lora.serving.refusals import ERRORS, describe
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


class CompletionFields(BaseModel):
    """What both kinds of request have in common; every other field is refused."""

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

    def sampling(self, max_new_tokens: int | None) -> Sampling:
        """Without a temperature the likeliest tokens are chosen: what a pilot measured is then what answers."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            max_new_tokens=max_new_tokens or Sampling.max_new_tokens,
            stop=tuple(stops),
        )


class ChatRequest(CompletionFields):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=200)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    response_format: ResponseFormat | None = None
    logprobs: Literal[False] | None = None

    def generation(self, seconds: float) -> GenerationRequest:
        return GenerationRequest(
            self.model,
            tuple(message.plain() for message in self.messages),
            sampling=self.sampling(self.max_completion_tokens or self.max_tokens),
            seconds=seconds,
            stream=bool(self.stream),
        )


class TextRequest(CompletionFields):
    prompt: Annotated[str, Field(min_length=1, max_length=_TEXT)]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None
    logprobs: None = None

    def generation(self, seconds: float) -> GenerationRequest:
        return GenerationRequest(
            self.model,
            text=self.prompt,
            sampling=self.sampling(self.max_tokens),
            seconds=seconds,
            stream=bool(self.stream),
        )


class Quota:
    """At most so many requests for one job at once."""

    def __init__(self, most: int) -> None:
        self._most, self._running = most, Counter[str]()

    @contextmanager
    def place(self, job: str) -> Iterator[None]:
        if self._running[job] >= self._most:
            raise Busy(f"{self._most} requests for the job {job} are running already; try again in a moment")
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


def router(service: Service, gate: Authenticator) -> APIRouter:
    made = APIRouter(prefix="/v1", tags=["inference"], dependencies=[Depends(gate.inference)], responses=ERRORS)
    quota = Quota(service.limits.per_job)

    @made.post("/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Any:
        """Answer a conversation by the job that `model` names."""
        response = _Response("chat.completion", body, request)
        return await _answer(service, quota, body.generation(_seconds(service, request)), response)

    @made.post("/completions")
    async def complete(body: TextRequest, request: Request) -> Any:
        """Go on with a text as it stands, by the job that `model` names."""
        response = _Response("text_completion", body, request)
        return await _answer(service, quota, body.generation(_seconds(service, request)), response)

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


class _Response:
    """The JSON of one kind of reply, complete or in chunks."""

    def __init__(self, kind: str, body: CompletionFields, request: Request) -> None:
        self.kind, self.request, self.job = kind, request, body.model
        self.stream = bool(body.stream)
        self.usage = bool(body.stream_options and body.stream_options.include_usage)
        self.id = f"{'chatcmpl' if kind == 'chat.completion' else 'cmpl'}-{record_of(request).request}"
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

    def complete(self, release: Release, text: str, last: Chunk) -> dict[str, Any]:
        body = (
            {"message": {"role": "assistant", "content": text, "refusal": None}}
            if self.kind == "chat.completion"
            else {"text": text}
        )
        choice = {"index": 0, **body, "logprobs": None, "finish_reason": last.finish_reason}
        return {**self.frame(release, [choice], self.kind), "usage": _usage(last)}

    def chunks(self, release: Release, chunk: Chunk) -> Iterator[dict[str, Any]]:
        if self.kind == "chat.completion":
            kind, key = "chat.completion.chunk", "delta"
            body: Any = {**({} if self.begun else {"role": "assistant"}), "content": chunk.text}
            self.begun = True
        else:
            kind, key, body = "text_completion", "text", chunk.text
        choice = {"index": 0, key: body, "logprobs": None, "finish_reason": chunk.finish_reason}
        usage = {"usage": None} if self.usage else {}
        yield {**self.frame(release, [choice], kind), **usage}
        if chunk.finish_reason and self.usage:
            yield {**self.frame(release, [], kind), "usage": _usage(chunk)}


async def _answer(service: Service, quota: Quota, generation: GenerationRequest, response: _Response) -> Any:
    record = record_of(response.request)
    release = await asyncio.to_thread(_released, service, generation.job)
    record.job, record.release = generation.job, fingerprint(release)
    record.version = release.version.name if release.version else f"{generation.job}@base"
    headers = {RELEASE: fingerprint(release)}
    if response.stream:
        chunks = _counted(service, quota, release, generation, response.request)
        first = await _unless_gone(
            response.request, anext(chunks)
        )  # what is refused is refused before the answer begins
        return StreamingResponse(
            _events(response, release, first, chunks), media_type="text/event-stream", headers=headers
        )

    async def whole() -> tuple[str, Chunk]:
        text = ""
        async with aclosing(_counted(service, quota, release, generation, response.request)) as chunks:
            async for chunk in chunks:
                text += chunk.text
        return text, chunk

    text, last = await _unless_gone(response.request, whole())
    return JSONResponse(response.complete(release, text, last), headers=headers)


async def _counted(
    service: Service, quota: Quota, release: Release, generation: GenerationRequest, request: Request
) -> AsyncGenerator[Chunk]:
    """The chunks of an answer within the job's quota; a version that cannot be served is rolled back."""
    record = record_of(request)
    try:
        with quota.place(generation.job):
            async with aclosing(service.engine.answer(release.version, generation)) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    record.prompt_tokens, record.completion_tokens = chunk.prompt_tokens, chunk.completion_tokens
                    yield chunk
    except Unfit:
        await asyncio.to_thread(service.take_back, release)
        raise


async def _events(
    response: _Response, release: Release, first: Chunk, rest: AsyncGenerator[Chunk]
) -> AsyncGenerator[str]:
    async with aclosing(rest):
        try:
            for event in response.chunks(release, first):
                yield _event(event)
            async for chunk in rest:
                for event in response.chunks(release, chunk):
                    yield _event(event)
        except Prompt2LoraError as error:
            status, code, _ = describe(error)
            yield _event(failure(status, str(error), code))
            return
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def _unless_gone(request: Request, answer: Awaitable[Any]) -> Any:
    """The result of `answer`, which is cancelled as soon as the client has gone."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, left = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
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
        raise Refused(400, f"{_TIMEOUT} must be a positive number of seconds, not {given[:40]!r}", "invalid_timeout")
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


def _usage(chunk: Chunk) -> dict[str, int]:
    return {
        "prompt_tokens": chunk.prompt_tokens,
        "completion_tokens": chunk.completion_tokens,
        "total_tokens": chunk.prompt_tokens + chunk.completion_tokens,
    }
