"""Whether the tables hold what the audit log tells: no release, no verdict and no key is there that nobody told of, or
is gone or as it was before, and what answers a job is its last release.

In: a connection to the registry's database, then the lines of its audit log. Out: the first row that is not on record,
or the first line without its row, if there is one. Whether the log itself is as it was written is audit.py's to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from prompt2lora.custody import audit, jobs, releases, schema
from prompt2lora.custody.releases import PROMOTE, ROLLBACK
from prompt2lora.custody.versions import Version
from prompt2lora.errors import DamagedFile

JUDGE, ADD_KEY, REVOKE_KEY = "judge", "add key", "revoke key"
_DETAIL = {  # of a line: what stands in its row, too
    PROMOTE: ("release", "previous", "reason"),
    ROLLBACK: ("release", "previous", "reason"),
    JUDGE: ("verdict", "policy"),
    ADD_KEY: ("key", "role", "infer"),
    REVOKE_KEY: ("key",),
}


class Rows(NamedTuple):
    """`lines` is how many lines there were before, `answering` (job, the release that answers, its last one); the
    `others` are as `_told` has them."""

    lines: int
    answering: list[tuple[str, int | None, int | None]]
    others: list[tuple[Any, ...]]


def read(connection: Connection) -> Rows:
    """What the tables hold; to be read before the lines, so that those of what another process adds are there."""
    lines = audit.count(connection)
    answering = [(job, now, last) for job, now, last in connection.execute(_answering())]
    return Rows(lines, answering, [*_rows(connection)])


def check(rows: Rows, lines: Iterable[audit.Line]) -> None:
    """Raises DamagedFile for the first row that no line tells of, and for the first line whose row is gone."""
    for job, release, last in rows.answering:
        if release != last:
            raise DamagedFile(
                f"{job} is answered by release {release}, and the last one on record is {last}; compare with the backup"
            )
    there, told = Counter(rows.others), list(_told(lines))
    if strange := next(iter(there - Counter(what for _, what in told)), None):
        raise DamagedFile(
            f"the audit log does not tell of {_words(strange)}; ask who wrote that into the database, and compare with "
            "the backup"
        )
    if gone := next(iter(Counter(what for number, what in told if number <= rows.lines) - there), None):
        raise DamagedFile(
            f"the audit log tells of {_words(gone)}, and the database does not hold it; ask who changed the database, "
            "and compare with the backup"
        )


def _words(what: tuple[Any, ...]) -> str:
    action, subject, *detail = what
    return f"{action} {subject} ({', '.join(map(str, detail))})"


def _answering() -> Any:
    """Per job the release that answers and the last one, in one statement, so that nothing comes between."""
    last = select(func.max(schema.releases.c.id)).where(schema.releases.c.job == schema.jobs.c.id).scalar_subquery()
    return select(schema.jobs.c.name, schema.jobs.c.release, last).order_by(schema.jobs.c.name)


def _rows(connection: Connection) -> Iterator[tuple[Any, ...]]:
    """What the tables hold, as `_told` has it."""
    for job in jobs.display_names(connection):
        for one in releases.history(connection, job):
            yield one.action, one.name, one.id, one.previous, one.reason
    verdicts, made = schema.verdicts.c, schema.versions
    columns = schema.jobs.c.name.label("job_name"), verdicts.verdict, verdicts.policy_digest
    of_jobs = schema.verdicts.join(made).join(schema.jobs, made.c.job == schema.jobs.c.id)
    for row in connection.execute(select(made, *columns).select_from(of_jobs).order_by(verdicts.id)):
        yield JUDGE, Version.read(row.job_name, row).name, row.verdict, row.policy_digest
    for key in connection.execute(select(schema.access_keys).order_by(schema.access_keys.c.at)):
        yield ADD_KEY, key.name, key.id, key.role, key.infer
        if key.revoked is not None:
            yield REVOKE_KEY, key.name, key.id


def _told(lines: Iterable[audit.Line]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The number of every line that has a row, and what stands in both."""
    for line in lines:
        if line.action in _DETAIL:
            detail = (line.detail.get(name) for name in _DETAIL[line.action])
            yield line.number, (line.action, line.subject, *detail)
