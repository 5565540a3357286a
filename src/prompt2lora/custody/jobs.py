"""Jobs: what programs call one, and what people do. What is read and written within a transaction.

In: a connection to the registry's database. Out: names and rows. It knows neither versions nor releases.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, insert, select, update

from prompt2lora.custody.schema import jobs
from prompt2lora.errors import UsageError
from prompt2lora.ground.comparison import composed
from prompt2lora.ground.prompts import is_one_line

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
_LONGEST_DISPLAY_NAME = 80


def check_name(name: str) -> None:
    """Raises UsageError for what no job can be called."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"a job's name is made of a-z, 0-9, - . and _, at most 80 of them; {name[:90]!r} is not")


def display_name_of(text: str) -> str:
    """What people may call a job: one short line, in any script, trimmed; empty for no name of its own.

    Raises UsageError for anything else.
    """
    name, most = composed(text).strip(), _LONGEST_DISPLAY_NAME
    if len(name) > most or not is_one_line(name):
        raise UsageError(f"a display name is one line of at most {most} characters; shorten or correct {name[:40]!r}")
    return name


def is_known(connection: Connection, name: str) -> bool:
    return connection.scalar(select(jobs.c.id).where(jobs.c.name == name)) is not None


def find(connection: Connection, name: str) -> Any:
    """A job's row. Raises UsageError if there is none of that name."""
    row = connection.execute(select(jobs).where(jobs.c.name == name)).first()
    if row is None:
        raise UsageError(f"there is no job {name[:90]!r}; see `prompt2lora registry list`")
    return row


def display_names(connection: Connection) -> dict[str, str]:
    """What people call every job, in the order of the names; its name for one without a display name."""
    rows = connection.execute(select(jobs.c.name, jobs.c.display_name).order_by(jobs.c.name))
    return {row.name: row.display_name or row.name for row in rows}


def add(connection: Connection, name: str, at: str) -> bool:
    """Know a job by name; whether it is new."""
    if is_known(connection, name):
        return False
    connection.execute(insert(jobs).values(name=name, at=at))
    return True


def call(connection: Connection, name: str, display_name: str) -> str | None:
    """Let people call a job otherwise; returns what they called it before, None if that was the same."""
    job = find(connection, name)
    if job.display_name == display_name:
        return None
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(display_name=display_name))
    return str(job.display_name)
