"""Long work in the background, one job after the other: started by one request, looked up by later ones.

In: a function that reports its progress, and what was asked for as bytes. Out: a `QueuedJob` that can be looked up by
its id, and cancelled: one that waits never begins, one that runs stops where it next reports. Each lies in a file until
a week after its end, or until there are many, and what was asked for beside it until its end. A process that ends, by
whatever, leaves them to the next one on the same home: it holds a lock as long as it lives. What else lasts (versions,
verdicts) is in the registry. A queued job is not one of the registry's jobs: `job` names the one that it works for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from prompt2lora.custody.access import SERVICE
from prompt2lora.errors import Busy, Conflict, OutputError, Prompt2LoraError, Unavailable, UsageError
from prompt2lora.ground.files import exclusive_lock, write_bytes, write_text
from prompt2lora.ground.home import home
from prompt2lora.ground.progress import Cancelled, Report, listening, timed

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
_KEPT, _REMEMBERED = 200, timedelta(days=7)
_MOST_WAITING = 20
_MOST_RESTARTS = 2  # of work that runs: what ends the process every time must not do so for ever
_AGAIN = "look at its log, then ask for this again"
_log = logging.getLogger(__name__)


@dataclass
class QueuedJob:
    """`progress` is what was last reported (step, share, seconds_left), `result` the outcome, `error` why there is
    none; `cancelled_by` asked it to stop. `asked` is the digest of what was asked for, `base` that of the service's;
    `restarts` counts the processes that ended while it ran, though nobody had asked them to."""

    id: str
    kind: str
    job: str
    actor: str
    created: str
    asked: str = ""
    base: str = ""
    state: str = WAITING
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: str | None = None
    finished: str | None = None
    cancelled_by: str | None = None
    restarts: int = 0

    @property
    def over(self) -> bool:
        return self.state in (DONE, FAILED, CANCELLED)


class JobQueue:
    """`clock` tells the time; what is kept lies in `place`, by default below the home; jobs go from one process to the
    next of the same `base`."""

    def __init__(self, clock: Callable[[], datetime], place: Path | None = None, base: str = "") -> None:
        self._clock, self._place, self._base = clock, place or home() / "queue", base
        self._leaving = False
        self._jobs: dict[str, QueuedJob] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="queue")
        self._owner = secrets.token_hex(8)
        self._alive = FileLock(self._place / f"{self._owner}.lock", thread_local=False)
        with self._taking_over():
            self._alive.acquire()

    def start(
        self, kind: str, job: str, actor: str, function: Callable[[Report], dict[str, Any]], asked: bytes = b""
    ) -> QueuedJob:
        """Queue a job; an unfinished one of the same kind, for the same job, by the same actor, that was `asked` the
        same, is returned instead.

        A double click therefore starts one job. Raises Busy if too many wait, OutputError if it cannot be kept.
        """
        digest = hashlib.sha256(asked).hexdigest()
        with self._lock:
            unfinished = [queued for queued in self._jobs.values() if not queued.over]
            for one in unfinished:
                if (one.kind, one.job, one.actor, one.asked, one.cancelled_by) == (kind, job, actor, digest, None):
                    return one
            if len(unfinished) >= _MOST_WAITING:
                raise Busy(f"{len(unfinished)} queued jobs are already waiting; try again in a few minutes")
            queued = QueuedJob(secrets.token_hex(8), kind, job, actor, self._at(), digest, self._base)
            self._write(queued)  # first, so that what was asked never lies there without a record
            try:
                write_bytes(self._request(queued), asked)
            except OutputError:
                self._record(queued).unlink()
                raise
            self._jobs[queued.id] = queued
            over = [one for one in self._jobs.values() if one.over]
            over.sort(key=lambda one: one.actor != SERVICE)  # its own go first: nobody waits for them
            self._drop(over[: max(0, len(self._jobs) - _KEPT)])
            self._pool.submit(self._run, queued, function)
        return queued

    def left_behind(self) -> list[QueuedJob]:
        """What processes of this base that have ended left unfinished, the oldest first: each waits for `again`. All
        that they left is looked up here from now on."""
        found = []
        with self._taking_over(), self._lock:
            locks = [lock for lock in self._place.glob("*.lock") if _is_free(lock)]
            alive = {lock.stem for lock in self._place.glob("*.lock")} - {lock.stem for lock in locks}
            for file in self._place.glob("*-*.json"):
                if file.stem.partition("-")[0] not in alive:
                    try:
                        found += self._taken_over(file)
                    except (OutputError, OSError) as error:  # it is taken over the next time
                        _log.error("a queued job that was left behind: %s", error)
            self._jobs |= {queued.id: queued for queued in found}
            self._drop_requests()
            for lock in locks:
                lock.unlink()
        return sorted((queued for queued in found if not queued.over), key=_created)

    def again(self, queued: QueuedJob, function: Callable[[Report], dict[str, Any]]) -> None:
        """Let a job that was left behind wait for its turn."""
        self._pool.submit(self._run, queued, function)

    def asked(self, queued: QueuedJob) -> bytes:
        """What was asked for by an unfinished job. Raises UsageError if that is not there any more."""
        try:
            return self._request(queued).read_bytes()
        except FileNotFoundError as error:
            raise UsageError(f"the service ended before this was done, and the request is gone; {_AGAIN}") from error

    def forget(self) -> None:
        """Drop what has ended for a week."""
        oldest = self._at(_REMEMBERED)
        with self._lock:
            self._drop([queued for queued in self._jobs.values() if queued.over and (queued.finished or "") < oldest])

    def get(self, id: str) -> QueuedJob:
        """Raises UsageError for an id that is unknown or forgotten."""
        queued = self._jobs.get(id)
        if queued is None:
            raise UsageError(f"there is no queued job {id[:40]!r} (any more); its result, if any, is in the registry")
        return queued

    def unfinished(self, id: str) -> QueuedJob:
        """Raises UsageError for an id that is unknown, Conflict for a job that has ended."""
        queued = self.get(id)
        if queued.over:
            raise Conflict(f"the queued job {queued.id} is already {queued.state}; look at its result")
        return queued

    def cancel(self, id: str, actor: str) -> QueuedJob:
        """Let a job stop. Raises as `unfinished`."""
        with self._lock:
            queued = self.unfinished(id)
            queued.cancelled_by = actor
            if queued.state == WAITING:
                queued.state, queued.finished = CANCELLED, self._at()
            self._keep(queued)
        return queued

    def recent(self) -> list[QueuedJob]:
        """The newest first."""
        return sorted(self._jobs.values(), key=_created)[::-1]

    def of_job(self, kind: str, job: str) -> list[QueuedJob]:
        """Those of a kind for a job of the registry, the newest first."""
        return [queued for queued in self.recent() if (queued.kind, queued.job) == (kind, job)]

    def leave(self) -> None:
        """All jobs are left to the next process: from now on none begins, and the one that runs ends where it next
        reports or is refused an answer. If it never does, it has waited all the same: this end was asked for."""
        with self._lock:
            self._leaving = True
            for queued in self._jobs.values():
                if queued.state == RUNNING:
                    self._keep(replace(queued, state=WAITING))

    def close(self) -> None:
        """The running job is waited for; those that wait are left to the next process."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._alive.release()

    def _run(self, queued: QueuedJob, function: Callable[[Report], dict[str, Any]]) -> None:
        with self._lock:
            if queued.over or self._leaving:
                return
            queued.state = RUNNING
            self._keep(queued)

        def keep(record: dict[str, Any]) -> None:
            if queued.cancelled_by is not None or self._leaving:
                raise Cancelled
            queued.progress = {**queued.progress, **record}

        report, result, error = timed(keep), None, None
        try:
            with listening(report):
                result, state = function(report), DONE
        except Cancelled:
            state = CANCELLED if queued.cancelled_by is not None else WAITING
        except Prompt2LoraError as wrong:
            left = self._leaving and isinstance(wrong, Unavailable)
            error, state = (None, WAITING) if left else (str(wrong), FAILED)
        except Exception:
            _log.exception("queued job %s (%s of %s) failed", queued.id, queued.kind, queued.job)
            error, state = "this failed for a reason that is in the log; nothing was changed", FAILED
        with self._lock:  # whoever cancels now finds it ended, with its result
            queued.result, queued.error, queued.state = result, error, state
            queued.finished = self._at() if queued.over else None
            self._keep(queued)

    # On disk

    def _taking_over(self) -> AbstractContextManager[None]:
        """Inside, no process that begins is taken for one that has ended."""
        return exclusive_lock(self._place / "lock")

    def _request(self, queued: QueuedJob) -> Path:
        return self._place / f"{queued.id}.asked"

    def _record(self, queued: QueuedJob) -> Path:
        return self._place / f"{self._owner}-{queued.id}.json"

    def _write(self, queued: QueuedJob) -> None:
        write_text(self._record(queued), json.dumps(asdict(queued), ensure_ascii=False, default=str))
        if queued.over:
            self._request(queued).unlink(missing_ok=True)

    def _keep(self, queued: QueuedJob) -> None:
        """Work goes on although the disk is full; after a restart it begins once more."""
        try:
            self._write(queued)
        except OutputError as error:
            _log.error("queued job %s: %s", queued.id, error)

    def _taken_over(self, file: Path) -> list[QueuedJob]:
        """The job of a process that has ended; none if another version of this program wrote it so that we cannot read
        it, or if it waits for a service of another base, which it does for a week."""
        try:
            queued = QueuedJob(**json.loads(file.read_bytes()))
        except (ValueError, TypeError):
            _log.exception("%s is no record of a queued job and is removed", file)
            file.unlink()
            return []
        if queued.base not in ("", self._base):
            if queued.created < self._at(_REMEMBERED):
                file.unlink()
            return []
        queued.restarts += queued.state == RUNNING
        if not queued.over:
            queued.state, queued.progress = WAITING, {}
            if queued.cancelled_by is not None:
                queued.state, queued.finished = CANCELLED, self._at()
            elif queued.restarts > _MOST_RESTARTS:
                queued.state, queued.finished = FAILED, self._at()
                queued.error = f"the service ended {queued.restarts} times while this ran; {_AGAIN}"
        self._write(queued)
        file.unlink()
        return [queued]

    def _drop_requests(self) -> None:
        """Delete what was asked for, written whole or not, of which there is no record (any more)."""
        asked = {file: file.name.lstrip(".").partition(".")[0] for file in self._place.glob("*.asked*")}
        recorded = {file.stem.partition("-")[2] for file in self._place.glob("*-*.json")}
        for file, id in asked.items():
            if id not in recorded:
                file.unlink(missing_ok=True)

    def _drop(self, over: Sequence[QueuedJob]) -> None:
        for queued in over:
            del self._jobs[queued.id]
            self._record(queued).unlink(missing_ok=True)

    def _at(self, ago: timedelta = timedelta()) -> str:
        return (self._clock() - ago).isoformat(timespec="milliseconds")


def _created(queued: QueuedJob) -> str:
    return queued.created


def _is_free(lock: Path) -> bool:
    """Whether the process that held this lock has ended."""
    tried = FileLock(lock)
    try:
        tried.acquire(blocking=False)
    except Timeout:
        return False
    tried.release()
    return True
