"""Releases: what answers a job, and what answered it before. What is read and added within a transaction.

In: a connection to the registry's database. Out: values. It asks nobody whether a version may be released
(decisions.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update

from prompt2lora.custody import jobs, schema
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Conflict, UsageError
from prompt2lora.ground.prompts import is_one_line

MAX_REASON = 500
PROMOTE, ROLLBACK = "promote", "rollback"


class Release(NamedTuple):
    """What answers a job: a version, or (None) the base itself."""

    id: int
    job: str
    version: Version | None
    previous: int | None
    action: str
    reason: str
    actor: str
    at: str

    @property
    def name(self) -> str:
        """The name of what answers, in logs and in the record."""
        return self.version.name if self.version else f"{self.job}@base"


def history(connection: Connection, job: str) -> list[Release]:
    """All releases of a job, the oldest first."""
    found = select(schema.releases).where(schema.releases.c.job == jobs.find(connection, job).id)
    return [_release(connection, job, row) for row in connection.execute(found.order_by(schema.releases.c.id))]


def current(connection: Connection, job: str) -> Release | None:
    """The release that answers now; None before the first, when requests are refused."""
    number = jobs.find(connection, job).release
    if number is None:
        return None
    row = connection.execute(select(schema.releases).where(schema.releases.c.id == number)).one()
    return _release(connection, job, row)


def before(connection: Connection, job: str) -> list[Version | None]:
    """What a rollback goes back through, the base first: what answered before, but no adapter that answers now, and
    none that was taken back and not promoted since, whatever its number."""
    found: list[Version | None] = [None]
    taken_back, answering = set[str](), ""
    for release in history(connection, job):
        adapter = release.version.adapter if release.version else ""
        if release.action == PROMOTE:
            found.append(release.version)
            taken_back.discard(adapter)
        else:
            taken_back.add(answering)
            while found[-1] != release.version:
                found.pop()
        answering = adapter
    return [one for one in found if one is None or one.adapter not in {answering, *taken_back}]


def add(
    connection: Connection,
    job: str,
    version: Version | None,
    *,
    previous: int | None,
    action: str,
    reason: str,
    actor: str,
    at: str,
) -> Release:
    """Let a version (None: the base) answer the job, after `previous`, the id of the release that does now."""
    owner = jobs.find(connection, job)
    check_reason(reason)
    if version is not None and version.job != job:
        raise UsageError(f"{version.name} is a version of the job {version.job}, not of {job}; name one of its own")
    values = {
        "job": owner.id,
        "version": version.id if version else None,
        "previous": previous,
        "action": action,
        "reason": reason,
        "actor": actor,
        "at": at,
    }
    row = connection.execute(insert(schema.releases).values(**values).returning(schema.releases)).one()
    connection.execute(update(schema.jobs).where(schema.jobs.c.id == owner.id).values(release=row.id))
    return _release(connection, job, row)


def check_reason(reason: str) -> None:
    """Raises UsageError for what is no short line."""
    if not reason.strip():
        raise UsageError("every decision is recorded with its reason, and this one has none; say why in one line")
    if len(reason) > MAX_REASON or not is_one_line(reason):
        raise UsageError(f"a reason is one line of at most {MAX_REASON} characters; shorten {reason[:40]!r}...")


def changed(job: str) -> Conflict:
    return Conflict(f"the job {job} got another release meanwhile; look at `registry history` and decide again")


def _release(connection: Connection, job: str, row: Any) -> Release:
    version = None
    if row.version is not None:
        found = select(schema.versions).where(schema.versions.c.id == row.version)
        version = Version.read(job, connection.execute(found).one())
    return Release(row.id, job, version, row.previous, row.action, row.reason, row.actor, row.at)
