"""How long work tells where it is: a function that takes one dictionary a time.

Who calls long work passes such a function. What lies too deep for that, as a model that is put together at first use,
tells whoever listens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Report = Callable[[dict[str, Any]], None]


def silent(record: dict[str, Any]) -> None:
    """A report that nobody reads."""


_listener: ContextVar[Report] = ContextVar("listener", default=silent)


def tell(record: dict[str, Any]) -> None:
    """Report to whoever listens."""
    _listener.get()(record)


@contextmanager
def listening(report: Report) -> Iterator[None]:
    """What is told inside goes to `report`."""
    token = _listener.set(report)
    try:
        yield
    finally:
        _listener.reset(token)
