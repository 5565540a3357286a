"""Whose turn it is at a server that must not do two kinds of work at once.

In: the kind of what is to be done there. Out: a block that runs beside blocks of its own kind alone. Kinds take turns
in the order in which they came, so none waits for ever. It knows no server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import Enum, auto


class Turn(Enum):
    ADAPTERS = auto()  # answers of versions
    BASE = auto()  # answers of the base
    PROBE = auto()  # what is compared to the last digit


class Turns:
    """One kind at a time. While another one waits, newcomers of the running kind wait behind it."""

    def __init__(self) -> None:
        self._kind: Turn | None = None
        self._inside = 0
        self._waiting: list[tuple[Turn, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def of(self, kind: Turn) -> AsyncGenerator[None]:
        let_in = asyncio.get_running_loop().create_future()
        self._waiting.append((kind, let_in))
        self._admit()
        try:
            await let_in
            yield
        finally:
            let_in.cancel()  # whoever gave up before was never inside
            self._inside -= not let_in.cancelled()
            self._admit()

    def _admit(self) -> None:
        """Let in the first that waits and all that wait for the same, unless another kind is at work."""
        self._waiting = [one for one in self._waiting if not one[1].done()]
        if not self._waiting or (self._inside and self._kind is not self._waiting[0][0]):
            return
        self._kind = self._waiting[0][0]
        for kind, let_in in self._waiting:
            if kind is self._kind:
                self._inside += 1
                let_in.set_result(None)
