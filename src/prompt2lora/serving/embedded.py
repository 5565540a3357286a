"""The embedded engine: one base model in this process, and requests for many jobs in one running batch.

In: requests with their versions. Out: chunks of answers. This side takes requests, from any event loop, and waits for
their chunks; the scheduler's thread (`run`) owns the model. It knows neither HTTP nor the registry.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.half import halved
from prompt2lora.base.pictures import positions
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Misconfigured, Prompt2LoraError, Unfit, UsageError
from prompt2lora.ground.pictures import pictures_of
from prompt2lora.ground.profile import PROBE
from prompt2lora.serving.adapter_cache import AdapterCache
from prompt2lora.serving.admission import MAX_WAITING, last_answers
from prompt2lora.serving.batch import BatchCache
from prompt2lora.serving.detokenizer import Detokenizer
from prompt2lora.serving.key_values import Part
from prompt2lora.serving.prefix_cache import PrefixCache
from prompt2lora.serving.prompting import prompt_ids, with_room
from prompt2lora.serving.protocol import Chunk, GenerationRequest
from prompt2lora.serving.scheduler import Scheduler
from prompt2lora.serving.sequence import TokenSequence
from prompt2lora.serving.setup import Setup
from prompt2lora.serving.sizes import ADAPTER_CACHE_SIZE, MAX_BATCH_SIZE, PREFIX_CACHE_MB


class EmbeddedEngine:
    """Serves `folder`'s adapters on a frozen base.

    max_batch_size        requests answered at once
    max_waiting           most that wait beyond those; more are refused with Busy
    adapter_cache_size    most adapters in memory
    context_length        most tokens of a prompt and its answer together
    prefix_cache_mb       memory for what the requests of a version begin with, so that it is read once; 0: none
    base_digest           of the base's weights; versions for other ones are refused
    """

    tells_tokens = True

    def __init__(
        self,
        base: Frozen,
        folder: Callable[[Version], Path],
        *,
        max_batch_size: int = MAX_BATCH_SIZE,
        max_waiting: int = MAX_WAITING,
        adapter_cache_size: int = ADAPTER_CACHE_SIZE,
        context_length: int = 2048,
        prefix_cache_mb: int = PREFIX_CACHE_MB,
        base_digest: str = "",
    ) -> None:
        config = base.model.config
        self._layout, self._chat, self._base_digest = base.layout, base.chat, base_digest
        self._context_length = min(context_length, models.context_length(config))
        self._batch = BatchCache(base.model, base.layout, max(2, max_batch_size), self._context_length)
        self._prefixes = PrefixCache(prefix_cache_mb << 20)
        self._adapters = AdapterCache(
            base.layout,
            config,
            folder,
            size=adapter_cache_size,
            dtype=self._batch.dtype,
            device=self._batch.device,
            dropped=self._prefixes.drop,
        )
        self._tokenizer = copy.deepcopy(base.chat.tokenizer)  # the scheduler's own: no tokenizer serves two threads
        self._scheduler = Scheduler(self._batch, self._prefixes, base.chat.ends, max_batch_size, max_waiting)
        self._probe()

    @classmethod
    def load(
        cls, setup: Setup, folder: Callable[[Version], Path], *, exact: bool = False, **sizes: int
    ) -> EmbeddedEngine:
        """An engine for the base and the adapters of a setup.

        `exact` computes in float32 even where bfloat16 is faster: then an answer never depends on the other requests.
        In bfloat16 a full batch now and then rounds differently.
        """
        config = models.load_config(setup.base)
        layout = LoraLayout.from_config(config, base_model=setup.base, rank=setup.rank, targets=setup.targets)
        base = Frozen.load(layout, dtype=torch.float32 if exact else None)
        halved(base.model)
        return cls(base, folder, base_digest=setup.base_digest, **sizes)

    @property
    def base(self) -> str:
        return self._layout.base_model

    def start(self) -> EmbeddedEngine:
        """Work in a thread of its own from now on."""
        threading.Thread(target=self.run, name="engine", daemon=True).start()
        return self

    def run(self) -> None:
        """Work until `close`. Best in the main thread; half as fast in any other.

        OpenMP lets its helpers sleep after every operation as soon as it has more threads than there are cores, and it
        always counts the main thread. For the same reason all other threads get one core each from here on.
        """
        single = threading.Thread(target=torch.set_num_threads, args=(1,))  # for threads that are yet to come
        single.start()
        single.join()
        self._scheduler.run()

    async def answer(self, version: Version | None, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        self._scheduler.check_open()
        pictured = any(pictures_of(message.content) for message in request.messages)
        ids = await asyncio.to_thread(prompt_ids, self._chat, request) if pictured else prompt_ids(self._chat, request)
        if pictured and positions(ids)[-1] != len(ids):
            raise UsageError(f"{self.base} counts a picture's places in three axes, which only vLLM serves; send text")
        request = with_room(request, len(ids), self._context_length)
        if version is not None and not version.made_for(self.base, self._base_digest):
            raise Misconfigured(
                f"{version.name} is for the base {version.base} and this engine holds {self.base}; start the service "
                "again with --base, or promote another version"
            )
        grid = await asyncio.to_thread(self._adapters.get, version) if version is not None else None
        loop, chunks = asyncio.get_running_loop(), asyncio.Queue[Chunk | Prompt2LoraError]()

        def send(chunk: Chunk | Prompt2LoraError) -> None:
            with suppress(RuntimeError):  # the loop of the client may be gone
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)

        sampling, random = request.sampling, None
        if sampling.temperature > 0:
            random = torch.Generator().manual_seed(
                sampling.seed if sampling.seed is not None else int(torch.randint(2**62, ()))
            )
        detokenizer = Detokenizer(self._tokenizer, sampling.stop)
        name = version.name if version else ""
        matcher = await asyncio.to_thread(self._chat.constraints.begin, request.form) if request.form else None
        sequence = TokenSequence(request, name, ids, grid, send, detokenizer, random, matcher)
        self._scheduler.submit(sequence)
        try:
            while True:
                chunk = await chunks.get()
                if isinstance(chunk, Prompt2LoraError):
                    raise chunk
                yield chunk
                if chunk.finish_reason:
                    return
        finally:
            sequence.cancelled = True

    async def reconcile(self, _: Sequence[Version]) -> None:
        """Nothing is to do: an adapter is loaded by the first request for it."""

    async def ready(self) -> bool:
        return not self._scheduler.closing

    def stats(self) -> dict[str, int | float]:
        scheduler, adapters = self._scheduler, self._adapters
        return {
            "requests_running": len(scheduler.running),
            "requests_waiting": len(scheduler.waiting),
            "max_batch_size": scheduler.max_batch_size,
            "adapters_cached": len(adapters),
            "prefixes_cached": len(self._prefixes),
            "prefix_cache_bytes": self._prefixes.bytes,
            "adapter_loads_total": adapters.loads,
            "adapter_evictions_total": adapters.evictions,
            **{f"{name}_total": count for name, count in scheduler.counts.items()},
        }

    async def close(self, seconds: float) -> None:
        scheduler = self._scheduler
        scheduler.closing = True
        await last_answers(lambda: scheduler.running or scheduler.waiting, seconds)
        self.stop()
        await asyncio.to_thread(scheduler.ended.wait, 10.0)

    def stop(self) -> None:
        """End at once; whoever waits is told so. From any thread."""
        self._scheduler.stop()

    @torch.inference_mode()
    def _probe(self) -> None:
        """See that one sequence's adapter moves its logits and no other's. Raises Unfit if this base ignores it."""
        ids = self._chat.prompt_ids([PROBE])[0]
        parts = [Part(place, 0, ids) for place in range(2)]
        plain = self._batch.read(parts)
        random = torch.Generator().manual_seed(0)  # the same number everywhere is nothing behind a layer norm
        self._batch.adapters.set(1, torch.randn(self._layout.shape, generator=random) * 0.1)
        moved = (self._batch.read(parts) - plain).abs().amax(1)
        self._batch.adapters.set(1, None)
        if moved[1] == 0 or moved[0] > 0:
            raise Unfit(f"the base {self.base} takes no adapters of its own for each sequence; use another engine")
