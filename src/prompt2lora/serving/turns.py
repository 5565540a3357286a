"""Whose turn it is at a server that must not do two kinds of work at once.

In: the kind of what is to be done there. Out: a block that runs beside blocks of its own kind alone. Kinds take turns
in the order in which they came, so none waits for ever. It knows no server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import Enum, auto


class Kind(Enum):
    ADAPTERS = auto()  # answers of versions
    BASE = auto()  # answers of the base
    PROBE = auto()  # what is compared to the last digit


class Turns:
    """One kind at a time. While another one waits, newcomers of the running kind wait behind it."""

    def __init__(self) -> None:
        self._kind: Kind | None = None
        self._inside = 0
        self._waiting: list[tuple[Kind, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def of(self, kind: Kind) -> AsyncGenerator[None]:
        await self._enter(kind)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, kind: Kind) -> None:
        if not self._inside or (kind is self._kind and not self._waiting):
            self._kind = kind
            self._inside += 1
            return
        let_in = asyncio.get_running_loop().create_future()
        self._waiting.append((kind, let_in))
        try:
            await let_in
        except asyncio.CancelledError:
            if let_in.cancelled():
                self._waiting = [one for one in self._waiting if one[1] is not let_in]
            else:  # it was let in just before
                self._leave()
            raise

    def _leave(self) -> None:
        """The last one lets in all that wait for the same as the first that waits."""
        self._inside -= 1
        waiting = [one for one in self._waiting if not one[1].done()]
        if self._inside or not waiting:
            return
        self._kind = waiting[0][0]
        for kind, let_in in waiting:
            if kind is self._kind:
                self._inside += 1
                let_in.set_result(None)
        self._waiting = [one for one in waiting if one[0] is not self._kind]
