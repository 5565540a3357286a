"""Many machines as one engine: embedded engines as replicas of a Ray Serve deployment (extra `cluster`).

In: asks, in the words of asks.py. Out: pieces, from a replica that holds the adapter already if there is one
(`serve.multiplexed`), else from one that loads it. All replicas see the same folder of adapters. It knows no registry
and no HTTP. Ray itself must be closed to strangers: `start` refuses a cluster without token authentication.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from prompt2lora.custody.registry import Version
from prompt2lora.errors import Prompt2LoraError, TooLate, Unavailable, UsageError
from prompt2lora.serving.protocol import Ask, Piece

APP = "prompt2lora"
_RESIDENTS = 128


class Replica:
    """One embedded engine in a process of Ray's."""

    def __init__(self, base: str, adapters: str, rows: int) -> None:
        from prompt2lora.serving.embedded import Embedded

        self._folder = Path(adapters)
        self._engine = Embedded.load(base, lambda version: self._folder / version.adapter, rows=rows).start()

    async def answer(self, version: Version | None, ask: Ask) -> AsyncGenerator[Piece | Prompt2LoraError]:
        """Pieces; an error of ours is the last one, for an exception would come out as one of Ray's."""
        try:
            if version is not None:
                await self.hold(version.name)
            async for piece in self._engine.answer(version, ask):
                yield piece
        except Prompt2LoraError as error:
            yield error

    async def hold(self, name: str) -> str:
        """What Ray learns a replica holds; the engine's own residents are as many."""
        return name

    async def check_health(self) -> None:
        if not await self._engine.ready():
            raise RuntimeError("the engine has ended")


class Cluster:
    """An engine whose answers come from `replicas`; see `start`."""

    def __init__(self, handle: Any, base: str) -> None:
        self._handle, self._base = handle, base
        self._closing = False
        self._running = 0

    @classmethod
    def start(cls, base: str, adapters: Path, *, replicas: int = 2, rows: int = 16) -> Cluster:
        """Deploy on the Ray that this process is joined to. Raises UsageError if that Ray asks nobody for a token."""
        if os.environ.get("RAY_AUTH_MODE") != "token":
            raise UsageError("a Ray cluster must ask for a token; start it, and this, with RAY_AUTH_MODE=token")
        from ray import serve

        multiplexed = serve.multiplexed(max_num_models_per_replica=_RESIDENTS)
        replica = type("Replica", (Replica,), {"hold": multiplexed(Replica.hold)})
        deployment: Any = serve.deployment(replica, name="engine", num_replicas=replicas, max_ongoing_requests=8 * rows)
        serve.start(proxy_location="Disabled")  # it is asked by its handle alone: no port of Ray's own for requests
        handle = serve.run(deployment.bind(base, str(adapters), rows), name=APP, route_prefix=None)
        return cls(handle, base)

    @property
    def base(self) -> str:
        return self._base

    async def answer(self, version: Version | None, ask: Ask) -> AsyncGenerator[Piece]:
        from ray.exceptions import RayError

        if self._closing:
            raise Unavailable("the service is closing and takes nothing new; ask again in a minute")
        options = {"stream": True, **({"multiplexed_model_id": version.name} if version else {})}
        ends = asyncio.get_running_loop().time() + ask.seconds
        pieces = self._handle.options(**options).answer.remote(version, ask)
        self._running += 1
        try:
            while True:
                async with asyncio.timeout_at(ends):
                    piece = await anext(pieces)
                if isinstance(piece, Prompt2LoraError):
                    raise piece
                yield piece
                if piece.finish:
                    return
        except StopAsyncIteration as error:
            raise Unavailable("a machine broke off an answer; ask again") from error
        except TimeoutError as error:
            raise TooLate(f"no answer within {ask.seconds:g} seconds; ask again, or allow more time") from error
        except RayError as error:
            raise Unavailable("the machine that answered is gone; ask again") from error
        finally:
            self._running -= 1
            pieces.cancel()

    async def ready(self) -> bool:
        from ray import serve

        found = (await asyncio.to_thread(serve.status)).applications.get(APP)
        return not self._closing and found is not None and found.status == "RUNNING"

    def figures(self) -> dict[str, float]:
        return {"running": self._running}

    async def close(self, seconds: float) -> None:
        from ray import serve

        self._closing = True
        ends = asyncio.get_running_loop().time() + seconds
        while self._running and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(serve.delete, APP)
