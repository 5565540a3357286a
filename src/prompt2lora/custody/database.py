"""Opening the registry's database: SQLite by default, PostgreSQL by its URL; migrated to this version's schema.

In: a URL. Out: a SQLAlchemy engine. A `writing` transaction holds the only write lock from its beginning, so that
what it reads stays true until it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError

from prompt2lora.errors import DamagedFile, UsageError

_WRITES = "prompt2lora_writes"
_PATIENCE = 30  # seconds to wait for another process that writes


def open_database(url: str) -> Engine:
    """The engine of a database that has this version's schema.

    Raises UsageError for a URL that no driver here understands, DamagedFile for a database that cannot be read.
    """
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": _PATIENCE} if sqlite else {})
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageError(
            f"a database is named by a URL such as sqlite:///registry.db, not {url!r} ({error})"
        ) from error
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        migrate(engine)
    except DatabaseError as error:
        raise DamagedFile(
            f"the database {parsed.render_as_string()} cannot be opened ({error.orig}); put the backup back"
        ) from error
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other one writes beside."""
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE audit IN EXCLUSIVE MODE")
        yield connection


def migrate(engine: Engine, to: str = "head") -> None:
    """Bring the database to a revision of `migrations/`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say
    for setting in ("journal_mode = WAL", "foreign_keys = ON", "synchronous = FULL"):
        connection.execute(f"PRAGMA {setting}").close()
