"""Long work in the background, one job after the other: started by one request, looked up by later ones.

In: a function that reports its progress. Out: a `QueuedJob` that can be looked up by its id, and cancelled: one that
waits never begins, one that runs stops where it next reports. What lasts (versions, verdicts) is in the registry;
queued jobs are forgotten when the service ends, and finished ones when there are many. A queued job is not one of the
registry's jobs: `job` names the one that it works for.
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

from prompt2lora.errors import Busy, Conflict, Prompt2LoraError, UsageError
from prompt2lora.ground.progress import Cancelled, Report, listening, timed

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
_KEPT = 200
_MOST_WAITING = 20
_log = logging.getLogger(__name__)


@dataclass
class QueuedJob:
    """`progress` is what was last reported (step, share, seconds_left), `result` the outcome, `error` why there is
    none; `cancelled_by` asked it to stop."""

    id: str
    kind: str
    job: str
    actor: str
    created: str
    state: str = WAITING
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: str | None = None
    finished: str | None = None
    cancelled_by: str | None = None

    @property
    def over(self) -> bool:
        return self.state in (DONE, FAILED, CANCELLED)


class JobQueue:
    """`clock` tells the time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._jobs: dict[str, QueuedJob] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="queue")

    def start(self, kind: str, job: str, actor: str, function: Callable[[Report], dict[str, Any]]) -> QueuedJob:
        """Queue a job; an unfinished one of the same kind, for the same job, by the same actor is returned instead.

        A double click therefore starts one job. Raises Busy if too many wait.
        """
        with self._lock:
            unfinished = [queued for queued in self._jobs.values() if not queued.over]
            for queued in unfinished:
                if (queued.kind, queued.job, queued.actor, queued.cancelled_by) == (kind, job, actor, None):
                    return queued
            if len(unfinished) >= _MOST_WAITING:
                raise Busy(f"{len(unfinished)} queued jobs are waiting already; try again in a few minutes")
            queued = QueuedJob(secrets.token_hex(8), kind, job, actor, self._at())
            self._jobs[queued.id] = queued
            for old in [one.id for one in self._jobs.values() if one.over][: max(0, len(self._jobs) - _KEPT)]:
                del self._jobs[old]
            self._pool.submit(self._run, queued, function)
        return queued

    def get(self, id: str) -> QueuedJob:
        """Raises UsageError for an id that is unknown or forgotten."""
        queued = self._jobs.get(id)
        if queued is None:
            raise UsageError(f"there is no queued job {id[:40]!r} (any more); its result, if any, is in the registry")
        return queued

    def cancel(self, id: str, actor: str) -> QueuedJob:
        """Let a job stop. Raises UsageError for an id that is unknown, Conflict for a job that has ended."""
        queued = self.get(id)
        with self._lock:
            if queued.over:
                raise Conflict(f"the queued job {queued.id} is {queued.state} already; look at its result")
            queued.cancelled_by = actor
            if queued.state == WAITING:
                queued.state, queued.finished = CANCELLED, self._at()
        return queued

    def recent(self) -> list[QueuedJob]:
        """The newest first."""
        return list(self._jobs.values())[::-1]

    def of_job(self, kind: str, job: str) -> list[QueuedJob]:
        """Those of a kind for a job of the registry, the newest first."""
        return [queued for queued in self.recent() if (queued.kind, queued.job) == (kind, job)]

    def close(self) -> None:
        """The running job is finished, waiting ones are not started."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, queued: QueuedJob, function: Callable[[Report], dict[str, Any]]) -> None:
        with self._lock:
            if queued.over:
                return
            queued.state = RUNNING

        def keep(record: dict[str, Any]) -> None:
            if queued.cancelled_by is not None:
                raise Cancelled
            queued.progress = {**queued.progress, **record}

        report, result, error = timed(keep), None, None
        try:
            with listening(report):
                result, state = function(report), DONE
        except Cancelled:
            state = CANCELLED
        except Prompt2LoraError as wrong:
            error, state = str(wrong), FAILED
        except Exception:
            _log.exception("queued job %s (%s of %s) failed", queued.id, queued.kind, queued.job)
            error, state = "this failed for a reason that is in the log; nothing was changed", FAILED
        with self._lock:  # whoever cancels now finds it ended, with its result
            queued.result, queued.error, queued.finished, queued.state = result, error, self._at(), state

    def _at(self) -> str:
        return self._clock().isoformat(timespec="milliseconds")
