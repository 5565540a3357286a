"""Which requests an engine takes, and how it waits for those that it took before it ends. It knows no engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prompt2lora.errors import Busy, Unavailable

MAX_WAITING = 256  # requests beyond those that are answered at once


def check_open(closing: bool) -> None:
    """Raises Unavailable once an engine is closing."""
    if closing:
        raise Unavailable("the service is shutting down and takes no new requests; try again in a minute")


def check_room(waiting: int, most: int) -> None:
    """Raises Busy if as many are waiting as may."""
    if waiting >= most:
        raise Busy(f"{waiting} requests are already waiting; try again in a few seconds")


async def last_answers(unfinished: Callable[[], object], seconds: float) -> None:
    """Wait until nothing is unfinished, but no longer than that."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while unfinished() and loop.time() < ends:
        await asyncio.sleep(0.02)
