"""Server-sent events: the bytes of a stream -> the data of one event after the other.

In: pieces of bytes, cut anywhere. Out: texts. A line ends with CR, LF or both and with nothing else, so a text may hold
any other character that some call a line separator (WHATWG, HTML, 9.2.6). It knows neither HTTP nor JSON.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncGenerator, AsyncIterator

_LINE = re.compile(r"([^\r\n]*)(?:\r\n|\n|\r(?!\n|\Z))")  # a CR at the very end may be half of a line's end


async def events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """The data of every event that is complete."""
    data: list[str] = []
    async for line in _lines(pieces):
        name, _, value = line.partition(":")
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    decoder, held, begun = codecs.getincrementaldecoder("utf-8")(errors="replace"), "", False
    async for piece in pieces:
        held += decoder.decode(piece)
        if held and not begun:
            held, begun = held.removeprefix("\ufeff"), True
        end = 0
        for found in _LINE.finditer(held):
            yield found[1]
            end = found.end()
        held = held[end:]
    if held.endswith("\r"):
        yield held[:-1]
