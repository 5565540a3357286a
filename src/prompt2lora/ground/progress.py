"""How long work tells where it is: a function that takes one dictionary a time."""

from collections.abc import Callable
from typing import Any

Report = Callable[[dict[str, Any]], None]


def silent(record: dict[str, Any]) -> None:
    """A report that nobody reads."""
