"""Brings a database to the schema that this version needs, and tells when it is not there.

The scripts ship in `store/migrations`; no `alembic.ini` is read. One process migrates at a time:
others wait, find nothing to do, and return.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, exc, text

from events.errors import NotMigrated, StoreUnavailable
from store import partitions
from store.engine import reading, writing
from store.failures import is_missing_schema, name_of, not_migrated

HEAD = "0009"
VERSION_TABLE = "eventbus_version"  # not Alembic's default: an application in the same database has its own

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 0x6576656E74627573  # b"eventbus", the key of PostgreSQL's advisory lock
_LOCK_WAIT_S = 60.0
_ANY_TEXT = ("UTF8", "SQL_ASCII")


def upgrade(engine: Engine, on_step: Callable[[str, str], None] | None = None) -> list[str]:
    """Bring the database to the newest schema, and make the partitions of the next months.

    Args:
        on_step: called before each step with its revision, and with what it makes, in a sentence.

    Returns:
        The revisions applied, in order; empty when it was current.

    Raises:
        StoreUnavailable: the database cannot be reached or written; or it is new, and could not keep any text.
        NotMigrated: it is at a revision that this version does not know.

    Guarantee: all or nothing, and safe when several processes run it at once.
    """
    before = current(engine)
    if before is None:
        _refuse_few_letters(engine)
    done = [] if before == HEAD else _run(engine, "upgrade", "head", on_step)
    if engine.dialect.name == "postgresql":
        with writing(engine) as connection:
            partitions.ensure_ahead(connection, datetime.now(UTC))
    return done


def downgrade(engine: Engine, revision: str) -> list[str]:
    """Undo migrations down to a revision; `base` drops every table, and history with them.

    Returns:
        The revisions undone, in the order they were undone.

    Raises:
        StoreUnavailable: the database cannot be reached or written.
        NotMigrated: the revision, or the one the database is at, is not known to this version.
    """
    return _run(engine, "downgrade", revision)


def require_current(engine: Engine) -> None:
    """Make sure that the schema is this version's; one small query.

    Raises:
        NotMigrated: there is none, or an older or newer one; the sentence says what to do.
        StoreUnavailable: the database cannot be reached.
    """
    found = current(engine)
    if found == HEAD:
        return
    if found is None:
        raise not_migrated(engine, "has no event bus schema")
    if found < HEAD:
        raise not_migrated(engine, f"has schema {found}, and this version needs {HEAD}")
    raise NotMigrated(
        f"The database {name_of(engine)} has schema {found}, newer than {HEAD}, the newest that this version "
        f"knows: install the version of the event bus that made it."
    )


def current(engine: Engine) -> str | None:
    """Return the database's revision; None when it was never migrated.

    Raises:
        StoreUnavailable: the database cannot be reached.
    """
    with reading(engine) as connection:
        try:
            found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        except exc.DBAPIError as error:
            if is_missing_schema(error):
                return None
            raise
        return found


def _run(engine: Engine, direction: str, revision: str, on_step: Callable[[str, str], None] | None = None) -> list[str]:
    # Alembic is slow to import and needed by nothing else.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    done: list[str] = []
    coming: list[tuple[str, str]] = []

    def announce() -> None:
        if coming and on_step:
            on_step(*coming.pop(0))

    def applied(step: Any, **_: Any) -> None:
        done.append(step.up_revision_id)
        announce()

    with writing(engine, wait_s=_LOCK_WAIT_S) as connection:
        _only_one(connection)
        config = Config(attributes={"connection": connection, "applied": applied})
        config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        try:
            coming += _steps(config, connection) if on_step else []
            announce()
            getattr(command, direction)(config, revision)
        except CommandError as error:
            raise NotMigrated(
                f"The database {name_of(engine)} cannot be migrated by this version, which knows revisions up to "
                f"{HEAD}: {error}. Install the version of the event bus that made it, or name a known revision."
            ) from None
    return done


def _steps(config: Any, connection: Connection) -> list[tuple[str, str]]:
    """Return the revisions that lie before the newest schema, in order, each with its first line."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    now = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    steps = ScriptDirectory.from_config(config).iterate_revisions("head", now or "base")
    return [(step.revision, step.doc) for step in steps][::-1]


def _refuse_few_letters(engine: Engine) -> None:
    """Refuse a PostgreSQL that lacks letters: the first event with one would stop its archivers."""
    if engine.dialect.name != "postgresql":
        return
    with reading(engine) as connection:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding not in _ANY_TEXT:
        raise StoreUnavailable(
            f"The database {name_of(engine)} has the encoding {encoding}, in which most of the world's letters cannot "
            f"be stored: make one with `CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'`."
        )


def _only_one(connection: Connection) -> None:
    """Wait for other processes that migrate; SQLite's BEGIN IMMEDIATE has done so already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
