"""Many machines as one engine: embedded engines as replicas of a Ray Serve deployment (extra `cluster`).

In: requests. Out: chunks, from a replica that holds the adapter already if there is one
(`serve.multiplexed`), else from one that loads it. All replicas see the same folder of adapters. It knows no registry
and no HTTP. Ray itself must be closed to strangers: `start` refuses a cluster without token authentication.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from prompt2lora.custody.versions import Version
from prompt2lora.errors import Misconfigured, Prompt2LoraError, Unavailable, UsageError
from prompt2lora.serving.admission import check_open, last_answers
from prompt2lora.serving.protocol import Chunk, GenerationRequest
from prompt2lora.serving.setup import Setup
from prompt2lora.serving.sizes import ADAPTER_CACHE_SIZE, MAX_BATCH_SIZE

APP = "prompt2lora"


class RayReplica:
    """One embedded engine in a process of Ray's."""

    def __init__(self, setup: Setup, adapters: str, max_batch_size: int, exact: bool) -> None:
        from prompt2lora.base.weights import weights_digest
        from prompt2lora.serving.embedded import EmbeddedEngine

        if setup.base_digest and weights_digest(setup.base) != setup.base_digest:
            raise Misconfigured(
                f"the weights of {setup.base} on this machine are not those that the service began with; bring the "
                "same ones here"
            )
        self._folder = Path(adapters)
        self._engine = EmbeddedEngine.load(
            setup, lambda version: self._folder / version.adapter, exact=exact, max_batch_size=max_batch_size
        ).start()

    async def answer(
        self, version: Version | None, request: GenerationRequest
    ) -> AsyncGenerator[Chunk | Prompt2LoraError]:
        """Pieces; an error of ours is the last one, for an exception would come out as one of Ray's."""
        try:
            if version is not None:
                await self.hold(version.name)
            async for chunk in self._engine.answer(version, request):
                yield chunk
        except Prompt2LoraError as error:
            yield error

    async def hold(self, name: str) -> str:
        """What Ray learns a replica holds; the engine's own adapter cache is as large."""
        return name

    async def check_health(self) -> None:
        if not await self._engine.ready():
            raise RuntimeError("the engine has ended")


class RayCluster:
    """An engine whose answers come from `replicas`; see `start`."""

    tells_tokens = True

    def __init__(self, handle: Any, base: str) -> None:
        self._handle, self._base = handle, base
        self._closing = False
        self._running = 0

    @classmethod
    def start(
        cls,
        setup: Setup,
        adapters: Path,
        *,
        replicas: int = 2,
        max_batch_size: int = MAX_BATCH_SIZE,
        exact: bool = False,
    ) -> RayCluster:
        """Deploy on the Ray that this process is joined to; for `exact` see `EmbeddedEngine.load`.

        Raises UsageError if that Ray does not demand a token.
        """
        if os.environ.get("RAY_AUTH_MODE") != "token":
            raise UsageError("a Ray cluster must demand a token; start it, and this service, with RAY_AUTH_MODE=token")
        from ray import serve

        multiplexed = serve.multiplexed(max_num_models_per_replica=ADAPTER_CACHE_SIZE)
        replica = type("Replica", (RayReplica,), {"hold": multiplexed(RayReplica.hold)})
        deployment: Any = serve.deployment(
            replica, name="engine", num_replicas=replicas, max_ongoing_requests=8 * max_batch_size
        )
        serve.start(proxy_location="Disabled")  # it is asked by its handle alone: no port of Ray's own for requests
        handle = serve.run(deployment.bind(setup, str(adapters), max_batch_size, exact), name=APP, route_prefix=None)
        return cls(handle, setup.base)

    @property
    def base(self) -> str:
        return self._base

    async def answer(self, version: Version | None, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        check_open(self._closing)
        from ray.exceptions import RayError

        options = {"stream": True, **({"multiplexed_model_id": version.name} if version else {})}
        chunks = self._handle.options(**options).answer.remote(version, request)
        self._running += 1
        try:
            async for chunk in chunks:
                if isinstance(chunk, Prompt2LoraError):
                    raise chunk
                yield chunk
                if chunk.finish_reason:
                    return
            raise Unavailable("a machine broke off an answer; try again")
        except RayError as error:
            raise Unavailable("the machine that answered is gone; try again") from error
        finally:
            self._running -= 1
            chunks.cancel()

    async def reconcile(self, _: Sequence[Version]) -> None:
        """Nothing is to do: an adapter is loaded by the first request for it."""

    async def ready(self) -> bool:
        from ray import serve

        found = (await asyncio.to_thread(serve.status)).applications.get(APP)
        return not self._closing and found is not None and found.status == "RUNNING"

    def stats(self) -> dict[str, int | float]:
        return {"requests_running": self._running}

    async def close(self, seconds: float) -> None:
        from ray import serve

        self._closing = True
        await last_answers(lambda: self._running, seconds)
        await asyncio.to_thread(serve.delete, APP)
