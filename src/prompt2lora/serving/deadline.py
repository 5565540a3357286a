"""An answer within its time. In: chunks that an engine makes, seconds. Out: the same chunks, or TooLate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from prompt2lora.errors import TooLate
from prompt2lora.serving.protocol import Chunk


async def within(seconds: float, chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk]:
    """Raises TooLate if they are not made in that time. They are made whether or not somebody takes them: a slow reader
    holds up that one answer alone."""
    made = asyncio.Queue[Chunk | None]()

    async def make() -> None:
        async with asyncio.timeout(seconds), aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                made.put_nowait(chunk)

    making = asyncio.create_task(make())
    making.add_done_callback(lambda _: made.put_nowait(None))
    try:
        while chunk := await made.get():
            yield chunk
        await making
    except TimeoutError as error:
        raise TooLate(f"no answer within {seconds:g} seconds; try again, or allow more time") from error
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
