"""The caller's own transaction, which the outbox and the inbox write into: never begun, committed or ended here.

It has to be one of the store's database, because only what is in one database commits together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, Engine, exc, make_url

from events.context import handling
from events.errors import InvalidSettings, NotMigrated
from events.settings import Settings, without_password
from store.failures import first_line, is_missing_schema, name_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, scoped_session

Transaction: TypeAlias = "Session | scoped_session[Any] | Connection"


@contextmanager
def joined(session: Transaction, settings: Settings | None = None) -> Iterator[Connection]:
    """Enter the connection of a transaction that the caller has begun, or that this use of it begins.

    What the database says of a statement is the caller's to handle, and passes as SQLAlchemy's own error: a
    serialization failure, a deadlock, a lost connection. Only a missing table is named here.

    Args:
        settings: whose `database_url` names the store's database, if it is known.

    Raises:
        TypeError: it is neither a Session nor a Connection.
        InvalidSettings: its database is not the store's, as far as a URL tells; or it commits every statement by
            itself.
        NotMigrated: the tables are not in its database; roll back.
    """
    connection = _connection(session)
    _check(connection)
    if settings is not None and settings.database_url:
        _compare(connection.engine, settings.database_url)
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


def meant(settings: Settings | None) -> Settings:
    """Return the settings that a call means: those given, or the environment's.

    Inside a handler these are told its namespace, and nothing of its database, which may be its bus's own.
    """
    if settings is not None:
        return settings
    current, found = handling.get(), Settings.from_env()
    return found if current is None else found.with_(namespace=current.namespace, database_url=None)


def _connection(session: Transaction) -> Connection:
    if isinstance(session, Connection):
        return session
    from sqlalchemy.orm import Session, scoped_session  # a tenth of what a worker imports; who has one has it

    if isinstance(session, scoped_session):
        session = session()
    if isinstance(session, Session):
        return session.connection()
    advice = "pass a Session or a Connection that is in a transaction"
    if hasattr(session, "run_sync"):
        advice = "call it as `await session.run_sync(outbox.add, event)` or `await session.run_sync(inbox.once)`"
    raise TypeError(f"A {type(session).__name__} is no synchronous session: {advice}.")


def _compare(engine: Engine, database_url: str) -> None:
    """Compare what two URLs cannot name differently: the kind of database, and a file. A server has many names."""
    try:
        wanted, used = make_url(database_url), engine.url
    except (exc.ArgumentError, ValueError):
        return  # opening the store says what is wrong with it
    is_sqlite = used.get_backend_name() == "sqlite"
    elsewhere = is_sqlite != (wanted.get_backend_name() == "sqlite")
    if not elsewhere and is_sqlite and wanted.database and used.database and not used.database.startswith("file:"):
        elsewhere = Path(wanted.database).resolve() != Path(used.database).resolve()
    if elsewhere:
        raise InvalidSettings(
            f"This transaction is one of {name_of(engine)}, and the store's database (DATABASE_URL) is "
            f"{without_password(database_url)}: only what is in one database commits together. Use a session on the "
            "store's, or pass the settings that name it."
        )


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
