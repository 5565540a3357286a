"""One vLLM server: which adapters it holds, whether it applies them, and its answers.

In: a version, a request. Out: chunks of an answer. Raises Lost where another server may do better, and Unfit for an
adapter that is not applied. It knows no other server.

The base and versions never answer at the same time: vLLM's CPU build (0.32) gives a request for the base that shares a
batch with others the adapter of one of them (https://github.com/vllm-project/vllm/pull/48421). And a version is probed
while nothing else answers: in a crowd rounding alone moves the logits.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from prompt2lora.custody.versions import Version
from prompt2lora.errors import Busy, DamagedFile, Misconfigured, Unfit, UsageError
from prompt2lora.ground.answer_form import AnswerForm, choices
from prompt2lora.ground.pictures import Prompt, pictures_of, text_of
from prompt2lora.ground.profile import MAX_NEW_TOKENS, PROBE
from prompt2lora.serving.admission import check_open
from prompt2lora.serving.event_stream import events
from prompt2lora.serving.prompting import with_room
from prompt2lora.serving.protocol import Chunk, GenerationRequest
from prompt2lora.serving.turns import Turn, Turns

_PROBE_TOKENS = 4
_ODD_WORDS = ("qxz", "vkj")  # what no base answers by itself
# What the base's generation_config.json sets otherwise (Qwen2.5 repeats less by it), and a pilot never measured.
_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
_LISTING = 10.0  # seconds
_MOVED = 1e-4  # smallest change of a log-probability that counts as an adapter at work


class Lost(Exception):
    """A replica does not hold an adapter (any more), or is gone: another one may answer."""


class Forgotten(Lost):
    """A replica that was seen to hold an adapter has it no more: it was started again."""


@dataclass
class Replica:
    """`folder` tells where the server finds a version's adapter (DamagedFile, if it is not what it was); `seconds`
    bounds loading one.

    `sound` names the versions that have moved its logits since it was last seen to hold them. `aside`: it failed, and
    has neither answered nor told what it holds since.
    """

    url: str
    client: httpx.AsyncClient
    base: str
    folder: Callable[[Version], Path]
    seconds: float
    sound: set[str] = field(default_factory=set)
    running: int = 0
    loads: int = 0
    failed_probes: int = 0
    aside: bool = False
    forms: bool = False  # whether it was seen to hold answers to a form
    context_length: int = sys.maxsize  # tokens of a prompt and its answer, once it has said so
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _turns: Turns = field(default_factory=Turns)

    def put_aside(self, why: Exception) -> None:
        """A replica that is not there may have been restarted: what it held is no longer trusted."""
        self.aside = True
        if isinstance(why, httpx.RequestError):
            self.sound.clear()
            self.forms = False

    async def listed(self) -> set[str]:
        """The base and the adapters that it says it has. A replica that does not say so soon hangs."""
        reply = await self.client.get("/v1/models", timeout=_LISTING)
        if reply.status_code != 200:
            raise Lost(_reply_text(reply))
        with _readable():
            models = reply.json()["data"]
            found = {str(model["id"]) for model in models}
            told = [int(model["max_model_len"]) for model in models if model.get("max_model_len")]
            self.context_length = max(told, default=sys.maxsize)
        self.aside = False
        return found

    async def hold(self, version: Version) -> None:
        """Load a version and see that it is applied. Raises Unfit if it is not, Misconfigured if the server does not
        take it, Lost if it fails."""
        if version.name in self.sound:
            return
        async with self._lock:
            if version.name not in await self.listed():
                await self._load(version)
        async with self._turn(Turn.PROBE), self._lock:
            if version.name in self.sound:
                return
            mine, bases = [await self._likelihoods(name) for name in (version.name, self.base)]
            if mine[0] == bases[0] and max(abs(a - b) for a, b in zip(mine[1], bases[1], strict=True)) < _MOVED:
                self.failed_probes += 1
                raise Unfit(f"{self.url} answers {version.name} as the base; its adapter is not applied there")
            self.sound.add(version.name)

    async def _load(self, version: Version) -> None:
        try:
            folder = self.folder(version)
        except DamagedFile as error:
            raise Unfit(f"{version.name} cannot be served: {error}") from error
        body = {"lora_name": version.name, "lora_path": str(folder)}
        reply = await self.client.post("/v1/load_lora_adapter", json=body, timeout=self.seconds)
        self.loads += reply.status_code == 200
        if reply.status_code > 500:
            raise Lost(_reply_text(reply))
        if reply.status_code >= 400 and "already" not in reply.text:
            if reply.status_code == 500:  # so vLLM 0.32 answers for a rank that is too high
                health = await self.client.get("/health", timeout=self.seconds)
                if health.status_code != 200:
                    raise Lost(_reply_text(reply))
            raise Misconfigured(
                f"{self.url} does not take {version.name} ({_reply_text(reply)}); start that server with "
                "--enable-lora, with a --max-lora-rank that is high enough, and where it sees the same folder"
            )

    async def holds_forms(self) -> None:
        """See that it holds answers to a form. Raises Misconfigured if it does not: such fields are passed over."""
        if self.forms:
            return
        async with self._turn(Turn.BASE), self._lock:
            if self.forms:
                return
            asked = {"model": self.base, "prompt": PROBE, "max_tokens": 8, "temperature": 0}
            body = {**asked, **_structured(choices(_ODD_WORDS))}
            reply = await self.client.post("/v1/completions", json=body, timeout=self.seconds)
            if reply.status_code >= 500:
                raise Lost(_reply_text(reply))
            said = ""
            if reply.status_code == 200:
                with _readable():
                    said = str(reply.json()["choices"][0]["text"]).strip()
            if said not in _ODD_WORDS:
                raise Misconfigured(
                    f"{self.url} does not hold answers to a form (structured_outputs); update that server, or release "
                    "a version whose answers are free"
                )
            self.forms = True

    async def answer(self, name: str, request: GenerationRequest, ids: Sequence[int] | None) -> AsyncGenerator[Chunk]:
        """The chunks of the answer of a version that it holds, or of the base, by name; `ids` are the tokens of the
        prompt, None if it is to read the messages itself."""
        if request.form:
            await self.holds_forms()
        if ids is not None:
            request = with_room(request, len(ids), self.context_length)
        async with self._turn(Turn.BASE if name == self.base else Turn.ADAPTERS):
            if name != self.base and name not in self.sound:  # it came to that while this one waited
                raise Forgotten(f"{name} has to be seen at work again")
            async with aclosing(self._answer(name, request, ids)) as chunks:
                async for chunk in chunks:
                    yield chunk

    @asynccontextmanager
    async def _turn(self, kind: Turn) -> AsyncGenerator[None]:
        """Raises Unavailable if the service ended meanwhile."""
        async with self._turns.of(kind):
            check_open(self.client.is_closed)
            yield

    async def _answer(self, name: str, request: GenerationRequest, ids: Sequence[int] | None) -> AsyncGenerator[Chunk]:
        route = "/v1/chat/completions" if ids is None else "/v1/completions"
        wanted = request.sampling.max_new_tokens
        for limit in (wanted,) if wanted else (MAX_NEW_TOKENS, None):  # None: as many as there is room for
            body = await asyncio.to_thread(_body, name, request, ids, limit)  # pictures may have to be drawn anew
            async with self.client.stream("POST", route, json=body, timeout=request.seconds) as reply:
                if reply.status_code == 400 and limit != wanted:
                    continue  # there may be room for fewer
                if reply.status_code != 200:
                    await reply.aread()
                    self._refuse(name, reply)
                async with aclosing(_chunks(reply, name)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return

    async def _likelihoods(self, name: str) -> tuple[list[str], list[float]]:
        """The likeliest tokens after a fixed text, with their log-probabilities."""
        asked = {"prompt": PROBE, "max_tokens": _PROBE_TOKENS, "temperature": 0, "logprobs": 1}
        body = {"model": name, **_NEUTRAL, **asked}
        reply = await self.client.post("/v1/completions", json=body, timeout=self.seconds)
        if reply.status_code != 200:
            raise Lost(_reply_text(reply))
        with _readable():
            found = reply.json()["choices"][0]["logprobs"]
            return list(found["tokens"]), [float(one) for one in found["token_logprobs"]]

    def _refuse(self, name: str, reply: httpx.Response) -> None:
        if reply.status_code == 429:
            raise Busy(f"{self.url} is overloaded; try again in a few seconds")
        if reply.status_code == 404:
            self.sound.discard(name)
            raise Forgotten(_reply_text(reply))
        if reply.status_code < 500:
            raise UsageError(f"the request was refused ({_reply_text(reply)}); shorten or correct it")
        raise Lost(_reply_text(reply))


def _body(name: str, request: GenerationRequest, ids: Sequence[int] | None, max_tokens: int | None) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": name,
        **_NEUTRAL,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if request.form:
        body.update(_structured(request.form))
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if ids is not None:
        return {**body, "prompt": list(ids)}
    messages = [{"role": message.role, "content": _content(message.content)} for message in request.messages]
    return {**body, "messages": messages, "chat_template_kwargs": {"enable_thinking": False}}  # as in `ChatFormat`


def _content(said: Prompt) -> Any:
    """What a message says, as OpenAI's API has it."""
    if not pictures_of(said):
        return text_of(said)
    urls = [picture.seen_url for picture in pictures_of(said)]
    return [
        *({"type": "image_url", "image_url": {"url": url}} for url in urls),
        {"type": "text", "text": text_of(said)},
    ]


def _structured(form: AnswerForm) -> dict[str, Any]:
    """A form as vLLM takes it (0.12 and later; before, it had other names)."""
    if form.kind == "choices":
        return {"structured_outputs": {"choice": list(form.choices)}}
    if form.pattern is not None:
        return {"structured_outputs": {"regex": form.pattern}}
    return {"structured_outputs": {"json": json.loads(form.text)}}


async def _chunks(reply: httpx.Response, name: str) -> AsyncGenerator[Chunk]:
    """The chunks of a stream of events. Raises Lost if another model answers, it ends too early or cannot be read."""
    finish_reason, prompt, tokens, cached = None, 0, 0, 0
    async with aclosing(events(reply.aiter_bytes())) as told:
        async for data in told:
            if data == "[DONE]":
                break
            with _readable():
                event = json.loads(data)
                if "error" in event:
                    raise Lost(str(event["error"])[:200])
                if event.get("model") != name:
                    raise Lost(f"{event.get('model')!r} answered instead of {name}")
                usage = event.get("usage") or {}
                prompt = int(usage.get("prompt_tokens", prompt))
                tokens = int(usage.get("completion_tokens", tokens))
                cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or cached)
                text = ""
                for choice in event["choices"]:
                    text += choice.get("text") or (choice.get("delta") or {}).get("content") or ""
                    finish_reason = choice.get("finish_reason") or finish_reason
            if text:
                yield Chunk(text, prompt, tokens)
    if finish_reason is None:
        raise Lost("the stream ended without a reason")
    yield Chunk("", prompt, tokens, finish_reason, cached_tokens=cached)


@contextmanager
def _readable() -> Iterator[None]:
    """What is not of the form that was agreed on makes the replica one that is Lost."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Lost(f"a reply that cannot be read ({type(error).__name__}: {error})") from error


def _reply_text(reply: httpx.Response) -> str:
    return f"{reply.status_code} {reply.text[:200]}"
