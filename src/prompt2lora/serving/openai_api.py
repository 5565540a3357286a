"""The API that every tool speaks: chat completions, completions and models, as OpenAI documents them.

In: HTTP requests whose `model` names a job. Out: answers of the version that the registry has released for that job at
this moment, and which one that was (`x-prompt2lora-release`, `system_fingerprint`). A job that is not known is an
error, never the base in disguise. The fields are in openai_requests.py and openai_replies.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from prompt2lora.custody.releases import Release
from prompt2lora.errors import Busy, Prompt2LoraError, Unfit, UsageError
from prompt2lora.serving.guard import Authenticator, Refused, failure, record_of
from prompt2lora.serving.metrics import RequestRecord
from prompt2lora.serving.openai_replies import Reply, as_event, as_model, fingerprint
from prompt2lora.serving.openai_requests import ChatRequest, TextRequest
from prompt2lora.serving.protocol import Chunk, GenerationRequest, as_they_come
from prompt2lora.serving.refusals import ERRORS, describe
from prompt2lora.serving.service import Service

RELEASE = "x-prompt2lora-release"
_TIMEOUT = "x-prompt2lora-timeout"


class Quota:
    """At most so many requests for one job at once."""

    def __init__(self, most: int) -> None:
        self._most, self._running = most, Counter[str]()

    @contextmanager
    def place(self, job: str) -> Iterator[None]:
        if self._running[job] >= self._most:
            raise Busy(f"{self._most} requests for the job {job} are already running; try again in a moment")
        self._running[job] += 1
        try:
            yield
        finally:
            self._running[job] -= 1
            if not self._running[job]:
                del self._running[job]


def router(service: Service, gate: Authenticator) -> APIRouter:
    made = APIRouter(prefix="/v1", tags=["inference"], dependencies=[Depends(gate.inference)], responses=ERRORS)
    quota = Quota(service.limits.per_job)

    @made.post("/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Any:
        """Answer a conversation by the job that `model` names."""
        return await _answer(service, quota, "chat.completion", body, request)

    @made.post("/completions")
    async def complete(body: TextRequest, request: Request) -> Any:
        """Go on with a text as it stands, by the job that `model` names."""
        return await _answer(service, quota, "text_completion", body, request)

    @made.head("/models", include_in_schema=False)
    @made.get("/models")
    def models() -> dict[str, Any]:
        """All jobs of this service's base that have a release."""
        return {"object": "list", "data": [_described(service, release) for release in service.releases()]}

    @made.head("/models/{model}", include_in_schema=False)
    @made.get("/models/{model}")
    def model(model: Annotated[str, Path(max_length=200)]) -> dict[str, Any]:
        """One job and what answers it."""
        return _described(service, _released(service, model))

    return made


def _described(service: Service, release: Release) -> dict[str, Any]:
    return as_model(release, service.engine.base, told=service.instruction_in_weights(release))


async def _answer(
    service: Service, quota: Quota, kind: str, body: ChatRequest | TextRequest, request: Request
) -> JSONResponse | StreamingResponse:
    record = record_of(request)
    generation = await asyncio.to_thread(body.generation, _seconds(service, request))  # a form is looked at
    release = await asyncio.to_thread(_released, service, generation.job)
    generation = await asyncio.to_thread(_in_form, service, release, generation)
    if generation.logprobs is not None and not service.engine.tells_tokens:
        raise UsageError("logprobs are not told by the engine behind this service; leave the field out")
    record.job, record.release, record.version = release.job, fingerprint(release), release.name
    headers = {RELEASE: fingerprint(release)}
    reply = Reply(kind, body, record.request, tells=generation.logprobs is not None)
    chunks = _counted(service, quota, release, _choices(generation, body.n or 1), request)
    if generation.stream:
        first = await _unless_gone(request, anext(chunks))  # what is refused is refused before the answer begins
        events = _events(reply, release, first, chunks, record)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    answers = await _unless_gone(request, _whole(chunks))
    return JSONResponse(reply.complete(release, answers), headers=headers)


def _choices(generation: GenerationRequest, count: int) -> list[GenerationRequest]:
    """A request for every choice, each drawn by a seed of its own."""
    sampling = generation.sampling
    seeds = [None if sampling.seed is None else sampling.seed + number for number in range(count)]
    return [replace(generation, sampling=replace(sampling, seed=seed)) for seed in seeds]


async def _counted(
    service: Service, quota: Quota, release: Release, asked: Sequence[GenerationRequest], request: Request
) -> AsyncGenerator[tuple[int, Chunk]]:
    """The chunks of all choices, with the number of the choice, within the job's quota; a version that cannot be
    served is rolled back."""
    record = record_of(request)
    written = [0] * len(asked)
    answers = [service.answer(release.version, one, quota.place(one.job)) for one in asked]
    try:
        async with aclosing(as_they_come(answers)) as chunks:
            async for number, chunk in chunks:
                written[number] = chunk.completion_tokens
                record.prompt_tokens, record.completion_tokens = chunk.prompt_tokens, sum(written)
                yield number, chunk
    except Unfit:
        await asyncio.to_thread(service.take_back, release)
        raise


async def _whole(chunks: AsyncGenerator[tuple[int, Chunk]]) -> dict[int, Chunk]:
    """Every choice as one chunk."""
    answers: dict[int, Chunk] = {}
    async with aclosing(chunks):
        async for number, chunk in chunks:
            answers[number] = answers[number].then(chunk) if number in answers else chunk
    return answers


async def _events(
    reply: Reply,
    release: Release,
    first: tuple[int, Chunk],
    rest: AsyncGenerator[tuple[int, Chunk]],
    record: RequestRecord,
) -> AsyncGenerator[str]:
    async with aclosing(rest):
        try:
            for event in reply.chunks(release, *first):
                yield as_event(event)
            async for number, chunk in rest:
                for event in reply.chunks(release, number, chunk):
                    yield as_event(event)
        except Prompt2LoraError as error:
            record.status, code, _ = describe(error)  # that of the reply is sent already
            yield as_event(failure(record.status, str(error), code))
            return
    yield "data: [DONE]\n\n"


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


def _in_form(service: Service, release: Release, generation: GenerationRequest) -> GenerationRequest:
    """The same request, for answers of the job's form; a text that is to be gone on with is none of its answers.

    Raises UsageError if the request asks for another form.
    """
    form = service.form(release) if generation.messages else None
    if form and generation.form and form.to_dict() != generation.form.to_dict():
        raise UsageError(f"the answers of {release.job} have the form {str(form)[:80]}; leave response_format out")
    return replace(generation, form=form or generation.form)


def _released(service: Service, job: str) -> Release:
    try:
        return service.release(job)
    except UsageError as error:
        raise Refused(404, str(error), "model_not_found") from error
