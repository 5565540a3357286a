"""llama.cpp as an engine: its server, started, watched and started again by this process; an adapter a request.

In: requests. Out: chunks. That server takes adapters only when it starts, answers a request for one that it does not
have as the base, and one that names none by whatever is applied (findings/llama-cpp-adapter-of-a-request.sh).
Therefore a new version means a new process beside the old one, which ends when its last answer does. The new one holds
what is released at that time and the few other versions that were asked for last: neither memory nor disk grows with
all that was ever released. Every request says the strength of an adapter, by its place in that process's own list, and
a version answers only after it has moved the logits there. It knows no registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from prompt2lora.adapter.formats import gguf
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Broken, OutputError, Unavailable, Unfit, UsageError
from prompt2lora.serving.admission import MAX_WAITING, check_open, check_room, last_answers
from prompt2lora.serving.llama_files import LlamaFiles
from prompt2lora.serving.llama_process import LlamaProcess
from prompt2lora.serving.llama_requests import body, chunks
from prompt2lora.serving.llama_server import LlamaServer
from prompt2lora.serving.prompting import prompt_ids, with_room
from prompt2lora.serving.protocol import Chunk, GenerationRequest
from prompt2lora.serving.setup import Setup
from prompt2lora.serving.sizes import MAX_BATCH_SIZE

_START_AGAIN = 2  # times that one request starts a server anew
_PROCESSES = 3  # at most: one that answers, one that ends, one that starts


@dataclass
class LlamaCppEngine:
    """`model` is the base as a GGUF file.

    released         what answers now, on whatever base
    folder           finds a version's adapter
    exported         where adapters are kept as llama.cpp reads them
    slots            requests answered at once, each of at most `context_length` tokens with its answer
    spare            most versions that a process holds beside those that are released
    """

    tells_tokens = False

    setup: Setup
    model: Path
    released: Callable[[], Sequence[Version]]
    folder: Callable[[Version], Path]
    exported: Path
    slots: int = MAX_BATCH_SIZE
    context_length: int = 2048
    threads: int = 1
    spare: int = 16
    _asked: dict[str, Version] = field(default_factory=dict)  # of those that are held; the last one last
    _server: LlamaServer | None = None  # the one that takes requests
    _servers: set[LlamaServer] = field(default_factory=set)  # with those that end
    _tasks: set[asyncio.Future[Any]] = field(default_factory=set)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _starts: int = 0
    _failed_probes: int = 0
    _running: int = 0
    _closing: bool = False

    def __post_init__(self) -> None:
        config, self._chat = models.load_config(self.setup.base), ChatFormat.load(self.setup.base)
        gguf.check(config)
        self._files = LlamaFiles(self.exported, self.folder, config)
        self.context_length = min(self.context_length, models.context_length(config))

    @property
    def base(self) -> str:
        return self.setup.base

    async def hold(self, version: Version | None = None) -> LlamaServer:
        """A server that holds what is released, and this version.

        Whoever waits for it may leave: it is ended all the same. Raises UsageError if it does not start.
        """
        return await asyncio.shield(self._task(self._hold(version)))

    async def answer(self, version: Version | None, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        check_open(self._closing)
        check_room(self._running - self.slots, MAX_WAITING)
        if version is not None:
            self.setup.check(version)
        ids = prompt_ids(self._chat, request)
        asked = body(ids, with_room(request, len(ids), self.context_length))
        self._running += 1
        try:
            async with aclosing(self._tried(version, asked)) as found:
                async for chunk in found:
                    yield chunk
        finally:
            self._running -= 1

    async def reconcile(self, _: Sequence[Version]) -> None:
        """Start a server that is gone again, though nobody asks: who is not ready is not asked."""
        with suppress(UsageError, OutputError, httpx.HTTPError):  # /readyz tells
            await self.hold()

    async def ready(self) -> bool:
        return not self._closing and self._server is not None and self._server.answers

    def stats(self) -> dict[str, int | float]:
        return {
            "requests_running": self._running,
            "max_batch_size": self.slots,
            "adapters_held": len(self._server.ids) if self._server else 0,
            "servers": len(self._servers),
            "server_starts_total": self._starts,
            "failed_probes_total": self._failed_probes,
        }

    async def close(self, seconds: float) -> None:
        self._closing = True
        await last_answers(lambda: self._running, seconds)
        async with self._lock:  # nobody starts one meanwhile
            await asyncio.gather(*(server.end() for server in self._servers))
        for task in self._tasks:  # such as one that waits for the last answer of a server that is ended
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hold(self, version: Version | None) -> LlamaServer:
        async with self._lock:
            check_open(self._closing)
            old = self._server
            if old and old.answers and old.knows(version):
                return old
            while old and old.answers and len(self._servers) >= _PROCESSES:  # what comes meanwhile goes together
                await asyncio.sleep(0.02)
                check_open(self._closing)
            return await self._start(version)

    async def _start(self, asked: Version | None) -> LlamaServer:
        """A process instead of the one that runs, which goes on to its last answer."""
        released = await asyncio.to_thread(self.released)
        held = {one.name: one for one in released if self.setup.serves(one)} | ({asked.name: asked} if asked else {})
        others = (one for name, one in reversed(self._asked.items()) if name not in held)
        held |= {one.name: one for one in islice(others, self.spare)}
        kept = {one.adapter for one in released}
        server = await asyncio.to_thread(self._launch, list(held.values()), kept, asked)
        old = self._server
        try:
            self._failed_probes += await server.probe(self._chat, old)
        except BaseException:
            await server.end()
            raise
        self._server, self._starts = server, self._starts + 1
        self._asked = {name: one for name, one in self._asked.items() if name in held}
        self._servers.add(server)
        if old:
            self._task(self._retire(old))
        return server

    def _launch(self, versions: Sequence[Version], kept: Collection[str], asked: Version | None) -> LlamaServer:
        sizes = {"slots": self.slots, "context_length": self.context_length, "threads": self.threads}
        with self._files.of(versions, kept, asked) as (files, unfit):
            process = LlamaProcess(self.model, list(files.values()), **sizes)
        return LlamaServer(process, {name: id for id, name in enumerate(files)}, unfit)

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

    async def _holding(self, version: Version | None) -> LlamaServer:
        """The server, with a version. Raises Unfit if it does not apply it, Unavailable if none can be started."""
        server = self._server
        if server is None or not server.answers or not server.knows(version):
            try:
                server = await self.hold(version)
            except (UsageError, OutputError, httpx.HTTPError) as error:  # it is not the request that is wrong
                raise Unavailable(f"llama.cpp cannot be started now ({error}); try again") from error
        if version and version.name in server.unfit:
            raise Unfit(server.unfit[version.name])
        if version:
            self._asked.pop(version.name, None)
            self._asked[version.name] = version
        return server

    async def _retire(self, server: LlamaServer) -> None:
        """End a server after its last answer."""
        while server.running:
            await asyncio.sleep(0.02)
        await server.end()
        self._servers.discard(server)
