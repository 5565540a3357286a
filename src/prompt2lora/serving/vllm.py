"""Several vLLM servers as one engine: replicas that load adapters from a folder which they see too.

In: requests. Out: chunks, from whichever replica holds the adapter and has least to do. What is known to go wrong
there is expected: a server that says "loaded" and answers as the base, one that was restarted and
holds nothing, one that is gone. Therefore every version has a name of its own that is never loaded twice, nothing is
ever unloaded (a rollback is a change in our registry), and an adapter answers from a replica only after it has moved
that replica's logits. It knows no registry and no torch.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from prompt2lora.custody.versions import Version
from prompt2lora.errors import Busy, TooLate, Unavailable, Unfit, UsageError
from prompt2lora.serving.protocol import Chunk, GenerationRequest

_PROBE = "Please answer in one word."
_PROBE_TOKENS = 4
_MOVED = 1e-4  # smallest change of a log-probability that counts as an adapter at work
_REST = 5.0  # seconds before a replica that failed is tried again


class _Lost(Exception):
    """A replica does not hold an adapter (any more), or is gone: another one may answer."""


@dataclass
class Replica:
    """One server. `sound` names the versions that have moved its logits since it was last seen to hold them."""

    url: str
    client: httpx.AsyncClient
    sound: set[str] = field(default_factory=set)
    running: int = 0
    failed_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class VllmServers:
    """`folder` tells where replicas find a version's adapter; `seconds` bounds loading one. `clock` is monotonic."""

    def __init__(
        self,
        clients: Sequence[tuple[str, httpx.AsyncClient]],
        base: str,
        folder: Callable[[Version], Path],
        *,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replicas = [Replica(url, client) for url, client in clients]
        self._base, self._folder, self._seconds, self._clock = base, folder, seconds, clock
        self._closing = False
        self._counts = {"adapter_loads_total": 0, "failed_probes_total": 0, "retries_total": 0}

    @property
    def base(self) -> str:
        return self._base

    async def answer(self, version: Version | None, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Pieces from one replica. Until the first chunk has come, a replica that fails is replaced by another."""
        ends = asyncio.get_running_loop().time() + request.seconds
        async with aclosing(self._tried(version, request)) as chunks:
            while True:
                try:
                    async with asyncio.timeout_at(ends):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise TooLate(
                        f"no answer within {request.seconds:g} seconds; try again, or allow more time"
                    ) from error
                yield chunk

    async def reconcile(self, versions: Sequence[Version]) -> dict[str, list[str]]:
        """Load the versions on every replica that lacks them; what each replica holds soundly afterwards."""

        async def one(replica: Replica) -> None:
            try:
                names = await self._listed(replica)
                replica.sound &= names
                for version in versions:
                    with suppress(Unfit):  # the others may fit
                        await self._hold(replica, version)
            except (_Lost, httpx.TransportError):
                self._put_aside(replica)

        await asyncio.gather(*(one(replica) for replica in self._replicas))
        return {replica.url: sorted(replica.sound) for replica in self._replicas}

    async def ready(self) -> bool:
        """Whether at least one replica lists the base that the adapters were made for."""

        async def one(replica: Replica) -> bool:
            try:
                return self._base in await self._listed(replica)
            except (_Lost, httpx.TransportError):
                self._put_aside(replica)
                return False

        return not self._closing and any(await asyncio.gather(*(one(replica) for replica in self._replicas)))

    def stats(self) -> dict[str, int | float]:
        at = self._clock()
        return {
            "replicas": len(self._replicas),
            "replicas_up": sum(at - replica.failed_at >= _REST for replica in self._replicas),
            "requests_running": sum(replica.running for replica in self._replicas),
            **self._counts,
        }

    async def close(self, seconds: float) -> None:
        self._closing = True
        ends = self._clock() + seconds
        while any(replica.running for replica in self._replicas) and self._clock() < ends:
            await asyncio.sleep(0.05)
        for replica in self._replicas:
            await replica.client.aclose()

    async def _tried(self, version: Version | None, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        failures: list[Unavailable] = []
        for replica in self._in_turn():
            begun = False
            try:
                async with aclosing(self._from(replica, version, request)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except (_Lost, httpx.TransportError) as error:
                if isinstance(error, httpx.TransportError):
                    self._put_aside(replica)
                if begun:
                    raise Unavailable(f"the server {replica.url} broke off an answer; try again") from error
                self._counts["retries_total"] += 1
            except (Unfit, Busy) as error:
                failures.append(error)
        for kind in (Busy, Unfit):
            for failure in failures:
                if isinstance(failure, kind):
                    raise failure
        raise Unavailable(f"none of {len(self._replicas)} servers can answer now; see /readyz and try again")

    # One replica

    def _in_turn(self) -> list[Replica]:
        """The replicas that may answer, the one with least to do first; those that failed just now come last."""
        if self._closing:
            raise Unavailable("the service is shutting down and takes no new requests; try again in a minute")
        at = self._clock()
        return sorted(self._replicas, key=lambda replica: (at - replica.failed_at < _REST, replica.running))

    def _put_aside(self, replica: Replica) -> None:
        """A replica that does not answer may have been restarted: what it held is no longer trusted."""
        replica.failed_at = self._clock()
        replica.sound.clear()

    async def _hold(self, replica: Replica, version: Version) -> None:
        """Load a version on a replica and see that it is applied. Raises Unfit if it is not, _Lost if it fails."""
        async with replica.lock:
            if version.name in replica.sound:
                return
            if version.name not in await self._listed(replica):
                body = {"lora_name": version.name, "lora_path": str(self._folder(version))}
                reply = await replica.client.post("/v1/load_lora_adapter", json=body, timeout=self._seconds)
                self._counts["adapter_loads_total"] += 1
                if reply.status_code in (400, 404, 422) and "already" not in reply.text:
                    raise Unfit(
                        f"{replica.url} does not take {version.name} ({_reply_text(reply)}); see `registry verify`"
                    )
                if reply.status_code >= 500:
                    raise _Lost(_reply_text(reply))
            mine, bases = [await self._likelihoods(replica, name) for name in (version.name, self._base)]
            if mine[0] == bases[0] and max(abs(a - b) for a, b in zip(mine[1], bases[1], strict=True)) < _MOVED:
                self._counts["failed_probes_total"] += 1
                raise Unfit(f"{replica.url} answers {version.name} as the base; its adapter is not applied there")
            replica.sound.add(version.name)

    async def _likelihoods(self, replica: Replica, name: str) -> tuple[list[str], list[float]]:
        """The likeliest tokens after a fixed text, with their log-probabilities."""
        body = {"model": name, "prompt": _PROBE, "max_tokens": _PROBE_TOKENS, "temperature": 0, "logprobs": 1}
        reply = await replica.client.post("/v1/completions", json=body, timeout=self._seconds)
        if reply.status_code != 200:
            raise _Lost(_reply_text(reply))
        found = reply.json()["choices"][0]["logprobs"]
        return found["tokens"], found["token_logprobs"]

    async def _listed(self, replica: Replica) -> set[str]:
        reply = await replica.client.get("/v1/models", timeout=self._seconds)
        if reply.status_code != 200:
            raise _Lost(_reply_text(reply))
        return {model["id"] for model in reply.json()["data"]}

    async def _from(
        self, replica: Replica, version: Version | None, request: GenerationRequest
    ) -> AsyncGenerator[Chunk]:
        replica.running += 1
        try:
            if version is not None:
                await self._hold(replica, version)
            name = version.name if version else self._base
            route = "/v1/chat/completions" if request.messages else "/v1/completions"
            body = _body(name, request)
            async with replica.client.stream("POST", route, json=body, timeout=request.seconds) as reply:
                if reply.status_code != 200:
                    await reply.aread()
                    self._refuse(replica, name, reply)
                async with aclosing(_chunks(reply, name)) as chunks:
                    async for chunk in chunks:
                        yield chunk
        finally:
            replica.running -= 1

    def _refuse(self, replica: Replica, name: str, reply: httpx.Response) -> None:
        if reply.status_code == 429:
            raise Busy(f"{replica.url} is overloaded; try again in a few seconds")
        if reply.status_code == 404:
            replica.sound.discard(name)  # it was restarted, or dropped the adapter
            raise _Lost(_reply_text(reply))
        if reply.status_code < 500:
            raise UsageError(f"the request was refused ({_reply_text(reply)}); shorten or correct it")
        raise _Lost(_reply_text(reply))


def _body(name: str, request: GenerationRequest) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": name,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.messages:
        return {**body, "messages": [message._asdict() for message in request.messages]}
    return {**body, "prompt": request.text}


async def _chunks(reply: httpx.Response, name: str) -> AsyncGenerator[Chunk]:
    """The chunks of a stream of server-sent events. Raises _Lost if another model answers, or if it ends too early."""
    finish_reason, prompt, tokens = None, 0, 0
    async for line in reply.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            break
        event = json.loads(data)
        if "error" in event:
            raise _Lost(str(event["error"])[:200])
        if event.get("model") != name:
            raise _Lost(f"{event.get('model')!r} answered instead of {name}")
        usage = event.get("usage") or {}
        prompt, tokens = usage.get("prompt_tokens", prompt), usage.get("completion_tokens", tokens)
        for choice in event["choices"]:
            text = choice.get("text") or choice.get("delta", {}).get("content") or ""
            finish_reason = choice.get("finish_reason") or finish_reason
            if text:
                yield Chunk(text, prompt, tokens)
    if finish_reason is None:
        raise _Lost("the stream ended without a reason")
    yield Chunk("", prompt, tokens, finish_reason)


def _reply_text(reply: httpx.Response) -> str:
    return f"{reply.status_code} {reply.text[:200]}"
