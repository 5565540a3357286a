"""Opening the registry's database: SQLite by default, PostgreSQL by its URL; migrated to this version's schema.

In: a URL. Out: a SQLAlchemy engine. A `writing` transaction holds the only write lock from its beginning, so that
what it reads stays true until it ends; one that only reads waits for nobody.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
)

from prompt2lora.custody.schema import REVISION
from prompt2lora.errors import DamagedFile, Unavailable, UsageError

_WRITES = "prompt2lora_writes"
_PATIENCE = 30  # seconds to wait for another process that writes
_SYSTEM = {  # what SQLite tells when the system is in its way, which says nothing of the file
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
_LOCK = 7_072_101  # of PostgreSQL, held while tables are made


def open_database(url: str) -> Engine:
    """The engine of a database that has this version's schema.

    Raises UsageError for a URL that no driver here understands, Unavailable for a server that does not answer,
    or for a file that the system does not let be used now, DamagedFile for a database that is damaged or is of a newer
    version.
    """
    try:
        parsed = make_url(url)
        engine = create_engine(url, connect_args=_settings(parsed))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageError(
            "a database is named by a URL such as sqlite:///registry.db, and this one cannot be used "
            f"({error}); correct PROMPT2LORA_DATABASE"
        ) from error
    if _is_sqlite(parsed):
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    shown = parsed.render_as_string()
    try:
        if _revision(engine) != REVISION:
            migrate(engine)
    except CommandError as error:
        engine.dispose()
        raise DamagedFile(f"the database {shown} is of a newer prompt2lora ({error}); install that one") from error
    except DatabaseError as error:
        engine.dispose()
        if isinstance(error, OperationalError) and not _is_sqlite(parsed):
            raise Unavailable(
                f"the database {shown} does not answer ({error.orig}); start it or correct the URL"
            ) from error
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SYSTEM:  # the lower byte says what, the upper one why
            raise Unavailable(
                f"the database {shown} cannot be used now ({error.orig}); check permissions and disk"
            ) from error
        raise DamagedFile(f"the database {shown} cannot be opened ({error.orig}); put the backup back") from error
    return engine


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _settings(url: URL) -> dict[str, Any]:
    """How long to wait for a lock, as each driver is told; SQLite's folder is made."""
    if not _is_sqlite(url):
        return {"options": f"{url.query.get('options', '')} -c lock_timeout={_PATIENCE}s".strip()}
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return {"timeout": _PATIENCE}


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads."""
    with _told(), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other one writes beside."""
    with _told(), engine.execution_options(**{_WRITES: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE audit IN EXCLUSIVE MODE")
        yield connection


@contextmanager
def _told() -> Iterator[None]:
    """The database's errors in this project's terms."""
    try:
        yield
    except OperationalError as error:
        raise Unavailable(
            f"the registry could not be used ({error.orig}); stop what is using it, or free disk space, and try again"
        ) from error
    except DataError as error:
        raise UsageError(f"the registry does not take this ({error.orig}); shorten or correct it") from error
    except DatabaseError as error:
        if type(error) not in (DatabaseError, InternalError):  # as SQLite and PostgreSQL tell of damaged pages
            raise
        raise DamagedFile(f"the registry cannot be read ({error.orig}); put the backup back") from error


def _revision(engine: Engine) -> str | None:
    """What `migrations/` has brought the database to; None for an empty one."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrate(engine: Engine, to: str = "head") -> None:
    """Bring the database to a revision of `migrations/`; of two processes that do so at once, one waits."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say
    ends = time.monotonic() + _PATIENCE
    for setting in ("journal_mode = WAL", "foreign_keys = ON", "synchronous = FULL"):
        while True:
            try:
                connection.execute(f"PRAGMA {setting}").close()
                break
            except sqlite3.OperationalError as error:  # of two that make a file WAL at once SQLite lets none wait
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                    raise
                time.sleep(0.02)
