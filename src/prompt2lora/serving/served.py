"""What is served: the releases of one base, and the engine that answers by them.

In: a job. Out: its release, if that is one of this base, what its answers have to be, the evidence against it. It knows
no keys and no job queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from dataclasses import dataclass, field

from prompt2lora.custody.access import SERVICE
from prompt2lora.custody.bases import current_release, released_form, version_behind
from prompt2lora.custody.records import WatchRecord, watch_record
from prompt2lora.custody.releases import Release
from prompt2lora.custody.versions import Version
from prompt2lora.errors import DamagedFile, Misconfigured, Prompt2LoraError, Unavailable, UsageError
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.deadline import within
from prompt2lora.serving.protocol import Chunk, Engine, GenerationRequest, joined
from prompt2lora.serving.setup import Setup

_NO_PLACE = nullcontext()
_log = logging.getLogger(__name__)


@dataclass
class Served:
    """`setup` is what the engine was started for (None: any version), `loop` the one that it is asked from."""

    plant: Plant
    engine: Engine
    setup: Setup | None = field(default=None, kw_only=True)
    loop: asyncio.AbstractEventLoop | None = field(default=None, kw_only=True)

    def released(self) -> list[Version]:
        """Every version that answers a job of this service's base now."""
        found = self.plant.registry.released()
        return [version for version in found if self.setup is None or self.setup.serves(version)]

    def check_releases(self) -> None:
        """Take back every release whose stored files are not what was signed, or whose alarm went up in vain."""
        monitor = self.plant.as_actor(SERVICE).monitor()
        for version in self.released():
            for check in (monitor.check_files, monitor.check_alarm):
                try:
                    check(version.job)
                except Prompt2LoraError as error:  # nothing is known of this one; the others are looked at all the same
                    _log.error("%s", error)

    def release(self, job: str) -> Release:
        """What answers a job now. Raises UsageError for a job that is unknown or was never released, Misconfigured for
        one of another base than this service's."""
        current = current_release(self.plant.registry, job)
        self._check_base(current)
        return current

    def releases(self) -> list[Release]:
        """What answers every job of this service's base that has a release."""
        registry, found = self.plant.registry, []
        for job in registry.jobs():
            with suppress(UsageError, Misconfigured):
                found.append(self.release(job))
        return found

    def instruction_in_weights(self, release: Release) -> bool | None:
        """Whether requests can leave the instruction out, since the adapter that answers was made with it; None if the
        adapter cannot be read."""
        if not release.version:
            return False
        with suppress(DamagedFile, Unavailable):
            origin = self.plant.registry.origin(release.version)
            return bool(origin.generated and origin.instruction)
        return None

    def _check_base(self, release: Release) -> None:
        """The base of another job's base is not ours to answer with either."""
        version = version_behind(self.plant.registry, release)
        if version and self.setup:
            self.setup.check(version)

    def take_back(self, release: Release) -> None:
        """A released version cannot be served: what answered before answers again, on record."""
        self.plant.as_actor(SERVICE).monitor().hard(release, "not applied")

    def form(self, release: Release) -> AnswerForm | None:
        """What the answers of a job have to be now; None: anything."""
        return released_form(self.plant.registry, release)

    def answer(
        self,
        version: Version | None,
        request: GenerationRequest,
        place: AbstractContextManager[None] = _NO_PLACE,
    ) -> AsyncGenerator[Chunk]:
        """The chunks of an answer within its time; `place` is held until all are made, however slowly they are read."""

        async def made() -> AsyncGenerator[Chunk]:
            with place:
                async with aclosing(self.engine.answer(version, request)) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        yield chunk

        return within(request.seconds, made())

    async def try_out(self, version: Version | None, request: GenerationRequest) -> str:
        """The whole answer of one version (None: the base), whether it is released or not. Raises Misconfigured."""
        if version and self.setup:
            self.setup.check(version)
        return (await joined(self.answer(version, request))).text

    def watched(self, job: str) -> WatchRecord | None:
        """The evidence against what answers a job now; None if that is not watched."""
        with suppress(UsageError):
            return watch_record(self.plant.monitor().watching(job)[0])
        return None
