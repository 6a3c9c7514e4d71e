"""The caller's own transaction, which the outbox and the inbox write into: never begun, committed or ended here.

It has to be one of the store's database, because only what is in one database commits together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, exc
from sqlalchemy.orm import Session, scoped_session

from events.context import handling
from events.errors import InvalidSettings, NotMigrated
from events.settings import Settings
from store.failures import first_line, is_missing_schema, name_of

Transaction = Session | scoped_session[Any] | Connection


@contextmanager
def joined(session: Transaction) -> Iterator[Connection]:
    """Enter the connection of a transaction that the caller has begun, or that this use of it begins.

    What the database says of a statement is the caller's to handle, and passes as SQLAlchemy's own error: a
    serialization failure, a deadlock, a lost connection. Only a missing table is named here.

    Raises:
        TypeError: it is neither a Session nor a Connection.
        InvalidSettings: its database cannot be the store's, or it commits every statement by itself.
        NotMigrated: the tables are not in its database; roll back.
    """
    connection = _connection(session)
    _check(connection)
    try:
        yield connection
    except exc.DBAPIError as error:
        if not is_missing_schema(error):
            raise
        raise NotMigrated(
            f"The database {name_of(connection.engine)} of this transaction lacks a table that the outbox or the "
            f"inbox needs ({first_line(error)}): run `eventbus migrate` if it is the store's (DATABASE_URL); else "
            "use a session on the store's database, for only there do both commit together."
        ) from None


def namespace_of(settings: Settings | None) -> str:
    """Name the namespace that a call means: the given settings', inside a handler its own, else the environment's."""
    if settings is not None:
        return settings.namespace
    current = handling.get()
    return current.namespace if current is not None else Settings.from_env().namespace


def _connection(session: Transaction) -> Connection:
    if isinstance(session, scoped_session):
        session = session()
    if isinstance(session, Session):
        return session.connection()
    if isinstance(session, Connection):
        return session
    advice = "pass a Session or a Connection that is in a transaction"
    if hasattr(session, "run_sync"):
        advice = "call it as `await session.run_sync(outbox.add, event)` or `await session.run_sync(inbox.once)`"
    raise TypeError(f"A {type(session).__name__} is no synchronous session: {advice}.")


def _check(connection: Connection) -> None:
    dialect = connection.dialect
    if dialect.name not in ("postgresql", "sqlite"):
        raise InvalidSettings(
            f"The outbox and the inbox are tables of the store's database, PostgreSQL or SQLite; this session is on "
            f"{dialect.name}."
        )
    commits_each = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    if not commits_each and dialect.name == "postgresql":
        commits_each = dialect.detect_autocommit_setting(connection.connection.dbapi_connection)  # type: ignore[arg-type]
    if commits_each:
        raise InvalidSettings(
            "This connection commits every statement by itself (AUTOCOMMIT), so nothing commits together with it: "
            "use one with transactions."
        )
