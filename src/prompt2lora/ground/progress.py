"""How long work tells how far it is: a function that takes one dictionary a time, a record.

In: records from where the work is done. Out: the same records where people are. `share` (0 to 1), or `done` and `of`,
say how far the work is; `step` names what is being done; whatever else is worth a line may stand beside them. What
lies too deep for a report to be passed down, as a loop over tokens, tells whoever listens. A listener who is asked to
stop the work raises Cancelled. It knows no terminal and no clock but the one it is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from itertools import accumulate, pairwise
from typing import Any

Report = Callable[[dict[str, Any]], None]

_ENOUGH_SECONDS, _ENOUGH_SHARE = 10.0, 0.02  # of work: before that nobody can say how long the rest takes
_LOAD = "load"  # the step that takes no time where models are in memory already, so that no pace follows from it
_RISE = 1.5  # times what was told before: a smaller rise is the unevenness of the steps


class Cancelled(BaseException):
    """The work was asked to stop. Like an interrupt it goes past all that catches errors."""


def silent(record: dict[str, Any]) -> None:
    """A report that nobody reads."""


_listener: ContextVar[Report] = ContextVar("listener", default=silent)


def tell(record: dict[str, Any]) -> None:
    """Report to whoever listens."""
    _listener.get()(record)


@contextmanager
def listening(report: Report) -> Iterator[None]:
    """What is told inside goes to `report`."""
    token = _listener.set(_heard(report))
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def part(report: Report, start: float, end: float, **said: Any) -> Iterator[Report]:
    """What is told inside is the part of the whole from the share `start` to `end`; `said` stands in every record."""
    whole = _heard(report)

    def told(record: dict[str, Any]) -> None:
        share = share_of(record)
        rest = {name: value for name, value in record.items() if name not in ("done", "of", "share")}
        whole(rest | said | ({} if share is None else {"share": start + (end - start) * share}))

    if said:
        whole({**said, "share": start})
    with listening(told):
        yield told


def steps(report: Report, **weights: float) -> Callable[[str], AbstractContextManager[Report]]:
    """Parts by their names, in this order, each of about so many seconds beside the others."""
    whole, total = _heard(report), sum(weights.values()) or 1.0
    ends = [end / total for end in accumulate([0.0, *weights.values()])]
    places = dict(zip(weights, pairwise(ends), strict=True))
    return lambda name: part(whole, *places[name], step=name)


def share_of(record: dict[str, Any]) -> float | None:
    """How far the work is, 0 to 1; None for a record that does not say."""
    if "share" in record:
        return float(record["share"])
    return record["done"] / record["of"] if record.get("of") else None


def timed(report: Report, clock: Callable[[], float] = time.monotonic) -> Report:
    """Every record with its `share` and about how many `seconds_left`: None before there is something to go by. A rise
    is told only where the work has become much slower."""
    first = last = (0.0, -1.0)  # (time, share)
    loading, before = False, math.inf

    def told(record: dict[str, Any]) -> None:
        nonlocal first, last, loading, before
        share = share_of(record)
        if share is None:
            return report(record)
        now = (clock(), share)
        if loading or first[1] < 0 or share < last[1] / 2:  # the work itself, or the next one, begins
            first, before = now, math.inf
        last, loading = now, record.get("step") == _LOAD
        seconds, gained = now[0] - first[0], share - first[1]
        known = seconds >= _ENOUGH_SECONDS and gained >= _ENOUGH_SHARE
        left = round(seconds * (1 - share) / gained) if known else None
        if left is not None:
            before = left = int(before) if before < left < _RISE * before else left
        return report({**record, "share": round(share, 4), "seconds_left": left})

    return told


def _heard(report: Report) -> Report:
    """A report of its own: whoever listens now, if that is meant."""
    return _listener.get() if report is tell else report
