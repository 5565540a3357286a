"""Long work in the background, one piece at a time: begun by a request, looked at by later ones.

In: a function that reports where it is. Out: a `Work` that can be asked for by its id. What lasts (versions, verdicts)
is in the registry; a work is forgotten when the service ends, and finished ones when there are many.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prompt2lora.errors import Busy, Prompt2LoraError, UsageError
from prompt2lora.ground.progress import Report

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
_KEPT = 200
_MOST_WAITING = 20
_log = logging.getLogger(__name__)


@dataclass
class Work:
    """`progress` is the last report, `result` what came of it, `error` why nothing did."""

    id: str
    kind: str
    job: str
    actor: str
    begun: str
    state: str = WAITING
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: str | None = None
    ended: str | None = None

    @property
    def over(self) -> bool:
        return self.state in (DONE, FAILED)


class Works:
    """`clock` tells the time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._works: dict[str, Work] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="work")

    def start(self, kind: str, job: str, actor: str, function: Callable[[Report], dict[str, Any]]) -> Work:
        """Begin a work; the same kind for the same job by the same actor that is not over yet is given instead.

        Two clicks are therefore one work. Raises Busy if too many wait.
        """
        with self._lock:
            unfinished = [work for work in self._works.values() if not work.over]
            for work in unfinished:
                if (work.kind, work.job, work.actor) == (kind, job, actor):
                    return work
            if len(unfinished) >= _MOST_WAITING:
                raise Busy(f"{len(unfinished)} works are waiting already; try again in a few minutes")
            work = Work(secrets.token_hex(8), kind, job, actor, self._at())
            self._works[work.id] = work
            for old in [one.id for one in self._works.values() if one.over][: max(0, len(self._works) - _KEPT)]:
                del self._works[old]
            self._pool.submit(self._run, work, function)
        return work

    def get(self, number: str) -> Work:
        """Raises UsageError for a work that is not known (any more)."""
        work = self._works.get(number)
        if work is None:
            raise UsageError(f"there is no work {number[:40]!r} (any more); what came of it stands in the registry")
        return work

    def recent(self) -> list[Work]:
        """The newest first."""
        return list(self._works.values())[::-1]

    def close(self) -> None:
        """What runs is finished, what waits is not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Work, function: Callable[[Report], dict[str, Any]]) -> None:
        work.state = RUNNING
        try:
            work.result = function(lambda record: work.progress.update(record))
            work.state = DONE
        except Prompt2LoraError as error:
            work.error, work.state = str(error), FAILED
        except Exception:
            _log.exception("work %s (%s of %s) failed", work.id, work.kind, work.job)
            work.error, work.state = "this failed for a reason that the log tells; nothing was changed", FAILED
        work.ended = self._at()

    def _at(self) -> str:
        return self._clock().isoformat(timespec="milliseconds")
