"""llama.cpp as an engine: its server, started, watched and started again by this process; an adapter a request.

In: requests. Out: chunks. That server takes adapters only when it starts, answers a request for one that it does not
have as the base, and one that names none by whatever is applied (findings/llama-cpp-adapter-of-a-request.sh).
Therefore a new version means a new process beside the old one, which ends when its last answer does; every request
says the strength of an adapter, by its place in that process's own list; and a version answers only after it has
moved the logits there. It knows no registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from prompt2lora.adapter.formats import gguf
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Broken, Unfit, UsageError
from prompt2lora.ground.files import new_folder
from prompt2lora.serving.admission import check_open, check_room, last_answers
from prompt2lora.serving.deadline import within
from prompt2lora.serving.llama_process import LlamaProcess
from prompt2lora.serving.llama_requests import body, chunks
from prompt2lora.serving.prompting import prompt_ids, with_room
from prompt2lora.serving.protocol import Chunk, GenerationRequest
from prompt2lora.serving.setup import Setup

_PROBE = "Please answer in one word: größer, 部品, 0.25 mm?"
_PROBABLE = 20  # tokens whose log-probabilities an adapter has to move
_MOVED = 1e-4  # smallest change of one that counts as an adapter at work
_START_AGAIN = 2  # times that one request starts a server anew


@dataclass(eq=False)
class _Server:
    """A process, and its adapters by version; `lost` if it broke off an answer."""

    process: LlamaProcess
    ids: dict[str, int]
    running: int = 0
    lost: bool = False

    @cached_property
    def client(self) -> httpx.AsyncClient:
        """Of the event loop that asks it first."""
        return httpx.AsyncClient(base_url=self.process.url, timeout=None)

    @property
    def answers(self) -> bool:
        return self.process.is_alive and not self.lost

    async def end(self) -> None:
        await asyncio.to_thread(self.process.close)
        if "client" in self.__dict__:
            await self.client.aclose()


@dataclass
class LlamaCppEngine:
    """`model` is the base as a GGUF file, `folder` finds a version's adapter, `exported` keeps adapters as llama.cpp
    reads them. `slots` requests are answered at once, each of at most `context_length` tokens with its answer;
    `max_waiting` more may wait."""

    setup: Setup
    model: Path
    folder: Callable[[Version], Path]
    exported: Path
    slots: int = 16
    context_length: int = 2048
    max_waiting: int = 256
    threads: int = 1
    _adapters: dict[str, Path] = field(default_factory=dict)
    _unfit: set[str] = field(default_factory=set)
    _server: _Server | None = None  # the one that takes requests
    _servers: set[_Server] = field(default_factory=set)  # with those that end
    _tasks: set[asyncio.Future[None]] = field(default_factory=set)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _starts: int = 0
    _running: int = 0
    _closing: bool = False

    def __post_init__(self) -> None:
        self._config, self._chat = models.load_config(self.setup.base), ChatFormat.load(self.setup.base)
        self.context_length = min(self.context_length, models.context_length(self._config))

    @property
    def base(self) -> str:
        return self.setup.base

    async def hold(self, versions: Sequence[Version]) -> None:
        """Have a server that holds these versions, too; those that it does not apply are remembered as unfit.

        Whoever waits for it may leave: it is ended all the same.
        """
        await asyncio.shield(self._task(self._hold(versions)))

    async def answer(self, version: Version | None, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        check_open(self._closing)
        check_room(self._running - self.slots, self.max_waiting)
        if version is not None:
            self.setup.check(version)
        ids = prompt_ids(self._chat, request)
        asked = body(ids, with_room(request, len(ids), self.context_length))
        self._running += 1
        try:
            async with aclosing(within(request.seconds, self._tried(version, asked))) as found:
                async for chunk in found:
                    yield chunk
        finally:
            self._running -= 1

    async def ready(self) -> bool:
        return not self._closing and self._server is not None and self._server.answers

    def stats(self) -> dict[str, int | float]:
        return {
            "requests_running": self._running,
            "max_batch_size": self.slots,
            "adapters_held": len(self._adapters) - len(self._unfit),
            "server_starts_total": self._starts,
            "failed_probes_total": len(self._unfit),
        }

    async def close(self, seconds: float) -> None:
        self._closing = True
        await last_answers(lambda: self._running, seconds)
        async with self._lock:  # nobody starts one meanwhile
            await asyncio.gather(*(server.end() for server in self._servers))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hold(self, versions: Sequence[Version]) -> None:
        async with self._lock:
            check_open(self._closing)
            fresh = [version for version in versions if version.name not in self._adapters]
            files = {version.name: await asyncio.to_thread(self._export, version) for version in fresh}
            if fresh or self._server is None or not self._server.answers:
                await self._start({**self._adapters, **files}, list(files))

    def _export(self, version: Version) -> Path:
        """The version's adapter as a GGUF file, made once."""
        folder = self.exported / version.adapter
        if not folder.exists():
            adapter = Adapter.load(self.folder(version), self._config)
            with new_folder(folder) as place:
                gguf.write(adapter, self._config, place)
        return folder / gguf.FILE

    async def _start(self, adapters: dict[str, Path], fresh: Sequence[str]) -> None:
        """A process with these adapters instead of the one that runs, which goes on to its last answer."""
        files, old = list(adapters.values()), self._server
        sizes = {"slots": self.slots, "context_length": self.context_length, "threads": self.threads}
        process = await asyncio.to_thread(lambda: LlamaProcess(self.model, files, **sizes))
        server = _Server(process, {name: id for id, name in enumerate(adapters)})
        try:
            async with httpx.AsyncClient(base_url=process.url, timeout=60.0) as client:
                await self._check_tokens(client)
                moved = {name: await self._moves(client, server.ids[name]) for name in fresh}
        except BaseException:
            await server.end()
            raise
        self._server, self._adapters, self._starts = server, adapters, self._starts + 1
        self._servers.add(server)
        self._unfit |= {name for name in fresh if not moved[name]}
        if old:
            self._task(self._retire(old))

    async def _check_tokens(self, client: httpx.AsyncClient) -> None:
        """Raises UsageError unless the file has the base's tokens."""
        reply = await client.post("/detokenize", json={"tokens": self._chat.text_ids(_PROBE)})
        if reply.status_code != 200 or reply.json()["content"].strip() != _PROBE:
            raise UsageError(f"{self.model} has other tokens than the base {self.base}; name the base's own GGUF file")

    async def _moves(self, client: httpx.AsyncClient, id: int) -> bool:
        """Whether an adapter moves the logits there."""
        asked = {"prompt": self._chat.prompt_ids([_PROBE])[0], "n_predict": 1, "n_probs": _PROBABLE, "temperature": 0.0}
        found = []
        for strength in (0.0, 1.0):
            lora = [{"id": id, "scale": strength}]
            reply = await client.post("/completion", json={**asked, "lora": lora, "cache_prompt": False})
            reply.raise_for_status()
            likeliest = reply.json()["completion_probabilities"][0]["top_logprobs"]
            found.append({one["id"]: float(one["logprob"]) for one in likeliest})
        base, own = found
        return base.keys() != own.keys() or max(abs(base[token] - own[token]) for token in base) >= _MOVED

    async def _tried(self, version: Version | None, asked: dict[str, Any]) -> AsyncGenerator[Chunk]:
        """Until the first chunk has come, a server that is gone is started anew."""
        for attempt in range(1 + _START_AGAIN):
            server = await self._holding(version)
            own = server.ids[version.name] if version else None
            lora = [{"id": id, "scale": float(id == own)} for id in server.ids.values()]
            begun = False
            server.running += 1
            try:
                async with aclosing(chunks(server.client, {**asked, "lora": lora})) as found:
                    async for chunk in found:
                        begun = True
                        yield chunk
                return
            except httpx.TransportError as error:
                server.lost = True
                if begun or attempt == _START_AGAIN:
                    raise Broken("llama.cpp's server broke off an answer; try again") from error
            finally:
                server.running -= 1

    async def _holding(self, version: Version | None) -> _Server:
        """The server, with a version. Raises Unfit if it does not apply it."""
        server = self._server
        if server is None or not server.answers or (version and version.name not in server.ids):
            await self.hold([version] if version else [])
        if version and version.name in self._unfit:
            raise Unfit(f"llama.cpp answers {version.name} as the base; its adapter is not applied there")
        assert self._server
        return self._server

    async def _retire(self, server: _Server) -> None:
        """End a server after its last answer."""
        while server.running:
            await asyncio.sleep(0.02)
        await server.end()
        self._servers.discard(server)
