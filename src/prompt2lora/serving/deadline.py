"""An answer within its time. In: chunks that an engine makes, seconds. Out: the same chunks, or TooLate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from prompt2lora.errors import TooLate
from prompt2lora.serving.protocol import Chunk


def too_late(seconds: float) -> TooLate:
    return TooLate(f"no answer within {seconds:g} seconds; try again, or allow more time")


async def within(seconds: float, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    """Raises TooLate once the time is over; what whoever asks does with a chunk counts, too."""
    ends = asyncio.get_running_loop().time() + seconds
    async with aclosing(chunks):
        while True:
            try:
                async with asyncio.timeout_at(ends):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise too_late(seconds) from error
            yield chunk
