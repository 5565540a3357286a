"""Whether the tables hold what the audit log tells: no release, no verdict and no key is there that nobody told of, and
what answers a job is its last release.

In: a connection to the registry's database, then the lines of its audit log. Out: the first row that is not on record,
if there is one. Whether the log itself is as it was written is audit.py's to say.
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
    """`answering` is (job, the release that answers, its last one), the `others` are as `_told` has them."""

    answering: list[tuple[str, int | None, int | None]]
    others: list[tuple[Any, ...]]


def read(connection: Connection) -> Rows:
    """What the tables hold; to be read before the lines, so that those of what another process adds are there."""
    return Rows([(job, now, last) for job, now, last in connection.execute(_answering())], [*_rows(connection)])


def check(rows: Rows, lines: Iterable[audit.Line]) -> None:
    """Raises DamagedFile for the first row that no line tells of."""
    for job, release, last in rows.answering:
        if release != last:
            raise DamagedFile(
                f"{job} is answered by release {release}, and the last one on record is {last}; compare with the backup"
            )
    if strange := next(iter(Counter(rows.others) - Counter(_told(lines))), None):
        action, subject, *detail = strange
        raise DamagedFile(
            f"the audit log does not tell of {action} {subject} ({', '.join(map(str, detail))}); ask who wrote that "
            "into the database, and compare with the backup"
        )


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


def _told(lines: Iterable[audit.Line]) -> Iterator[tuple[Any, ...]]:
    for line in lines:
        if line.action in _DETAIL:
            yield line.action, line.subject, *(line.detail.get(name) for name in _DETAIL[line.action])
