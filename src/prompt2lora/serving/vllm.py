"""Several vLLM servers as one engine: replicas that load adapters from a folder which they see too.

In: requests. Out: chunks, from whichever replica holds the adapter and has least to do. What is known to go wrong
there is expected: a server that says "loaded" and answers as the base, one that was restarted and
holds nothing, one that is gone. Therefore every version has a name of its own that is never loaded twice, nothing is
ever unloaded (a rollback is a change in our registry), and an adapter answers from a replica only after it has moved
that replica's logits. Texts go there as token ids, so that they are read as in training. A replica that failed takes
no requests while another one can, until it says again what it holds. It knows no registry and no torch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import httpx

from prompt2lora.base.chat import ChatFormat
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Broken, Busy, Misconfigured, Unavailable, Unfit
from prompt2lora.serving.admission import check_open, last_answers
from prompt2lora.serving.prompting import readable_ids
from prompt2lora.serving.protocol import Chunk, GenerationRequest
from prompt2lora.serving.replica import Forgotten, Lost, Replica


class VllmServers:
    """`chat` is how the base is asked, `folder` tells where replicas find a version's adapter, and `seconds` bounds
    loading one."""

    tells_tokens = False

    def __init__(
        self,
        clients: Sequence[tuple[str, httpx.AsyncClient]],
        base: str,
        chat: ChatFormat,
        folder: Callable[[Version], Path],
        *,
        seconds: float = 60.0,
    ) -> None:
        self._replicas = [Replica(url, client, base, folder, seconds) for url, client in clients]
        self._base = base
        self._chat = chat
        self._closing = False
        self._retries = 0

    @property
    def base(self) -> str:
        return self._base

    async def answer(self, version: Version | None, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Pieces from one replica. Until the first chunk has come, a replica that fails is replaced by another."""
        ids = readable_ids(self._chat, request)
        failures: list[Unavailable] = []
        broken = ""
        for tried, replica in enumerate(self._in_turn()):
            self._retries += tried > 0
            begun = False
            try:
                async with aclosing(self._from(replica, version, request, ids)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                replica.aside = False
                return
            except (Lost, httpx.RequestError) as error:
                if not isinstance(error, Forgotten):
                    replica.put_aside(error)
                if begun:
                    raise Broken(f"the server {replica.url} broke off an answer; try again") from error
                broken = broken or ("" if isinstance(error, httpx.TransportError) else f"; {replica.url}: {error}")
            except (Unfit, Misconfigured, Busy) as error:
                failures.append(error)
        for kind in (Busy, Misconfigured, Unfit):
            for failure in failures:
                if isinstance(failure, kind):
                    raise failure
        kind_of_all = Broken if broken else Unavailable
        raise kind_of_all(
            f"none of {len(self._replicas)} servers can answer now{broken[:300]}; see /readyz and try again"
        )

    async def reconcile(self, versions: Sequence[Version]) -> dict[str, list[str]]:
        """Load the versions on every replica that lacks them; what each replica holds soundly afterwards."""

        async def one(replica: Replica) -> None:
            try:
                names = await replica.listed()
                replica.sound &= names
                for version in versions:
                    with suppress(Unfit, Misconfigured):  # the others may fit
                        await replica.hold(version)
            except (Lost, httpx.RequestError) as error:
                replica.put_aside(error)

        await asyncio.gather(*(one(replica) for replica in self._replicas))
        return {replica.url: sorted(replica.sound) for replica in self._replicas}

    async def check(self, versions: Sequence[Version]) -> None:
        """Raises Misconfigured if a server that can be reached has another base or does not take a version."""
        for replica in self._replicas:
            try:
                names = await replica.listed()
                if self._base not in names:
                    raise Misconfigured(
                        f"{replica.url} does not list the base {self._base} but {', '.join(sorted(names))[:200]}; "
                        "start that server with --served-model-name, or this service with --base"
                    )
                for version in versions:
                    with suppress(Unfit):  # whoever asks for it is told
                        await replica.hold(version)
            except (Lost, httpx.RequestError) as error:
                replica.put_aside(error)

    async def ready(self) -> bool:
        """Whether at least one replica lists the base that the adapters were made for."""

        async def one(replica: Replica) -> bool:
            try:
                return self._base in await replica.listed()
            except (Lost, httpx.RequestError) as error:
                replica.put_aside(error)
                return False

        asked = [asyncio.ensure_future(one(replica)) for replica in self._replicas]
        try:
            for told in asyncio.as_completed(asked):
                if await told:
                    return not self._closing
            return False
        finally:
            for task in asked:
                task.cancel()

    def stats(self) -> dict[str, int | float]:
        return {
            "replicas": len(self._replicas),
            "replicas_up": sum(not replica.aside for replica in self._replicas),
            "requests_running": sum(replica.running for replica in self._replicas),
            "adapter_loads_total": sum(replica.loads for replica in self._replicas),
            "failed_probes_total": sum(replica.failed_probes for replica in self._replicas),
            "retries_total": self._retries,
        }

    async def close(self, seconds: float) -> None:
        self._closing = True
        await last_answers(lambda: any(replica.running for replica in self._replicas), seconds)
        for replica in self._replicas:
            await replica.client.aclose()

    def _in_turn(self) -> list[Replica]:
        """The replicas that may answer, the one with least to do first; those that failed come last."""
        check_open(self._closing)
        return sorted(self._replicas, key=lambda replica: (replica.aside, replica.running))

    async def _from(
        self, replica: Replica, version: Version | None, request: GenerationRequest, ids: list[int] | None
    ) -> AsyncGenerator[Chunk]:
        """Its chunks. What it has forgotten it is given again, once."""
        replica.running += 1
        try:
            for again in (True, False):
                if version is not None:
                    await replica.hold(version)
                try:
                    name = version.name if version else self._base
                    async with aclosing(replica.answer(name, request, ids)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    return
                except Forgotten:
                    if version is None or not again:
                        raise
        finally:
            replica.running -= 1
