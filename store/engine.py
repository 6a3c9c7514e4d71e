"""Opens the database: one engine per process, the same transactions on SQLite and PostgreSQL.

`reading` is one snapshot; `writing` is one transaction that commits whole or not at all. Nothing
connects before one of them is entered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, RootTransaction, create_engine, event, exc, make_url
from sqlalchemy.engine import URL

from events.errors import InvalidSettings
from events.settings import without_password
from store import paths
from store.failures import DATABASE_URL, mapped
from store.tables import read_json

# Connections beyond the pool's size: the archive's two writers do not take the readers' places.
_WRITER_CONNECTIONS = 2
# Parameters of libpq that are passwords.
_SECRETS = ("password", "sslpassword")


def open_engine(url: str, *, pool_size: int = 5, timeout_s: float = 5.0, named: str = DATABASE_URL) -> Engine:
    """Prepare the database that a URL names; nothing connects yet.

    Args:
        url: `postgresql://`, `postgres://` (both mean psycopg2 here) or `sqlite:///file`. The query
            string is kept: libpq reads it.
        pool_size: connections kept open; two more are opened for writers when these are all taken.
        timeout_s: seconds to wait for a connection, and on SQLite for another writer.
        named: the variable or option that gave the URL, for what is said of one that cannot be used.

    Raises:
        InvalidSettings: the URL cannot be read, or names an in-memory database.
    """
    try:
        return _opened(_parsed(url, named), pool_size, timeout_s)
    except (exc.ArgumentError, UnicodeError):  # bytes of the environment that are no UTF-8
        raise InvalidSettings(
            f"{named} cannot be used: {without_password(url)!r}. Write postgresql://user:password@host:5432/database, "
            "or sqlite:///FILE, with four slashes where FILE begins at the root."
        ) from None


def _opened(parsed: URL, pool_size: int, timeout_s: float) -> Engine:
    options: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": _WRITER_CONNECTIONS,
        "pool_timeout": timeout_s,
    }
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": timeout_s}, **options)
        _prepare_sqlite(engine, timeout_s)
        return engine
    wanted = {
        "connect_timeout": max(2, math.ceil(timeout_s)),
        "application_name": "eventbus",
        # Not that of the database: what it cannot hold is for it to refuse, row by row.
        "client_encoding": "utf8",
        # A server that vanished without a word is noticed in about a minute, not in two hours.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    arguments = {name: value for name, value in wanted.items() if name not in parsed.query}
    parsed, secrets = _without_secrets(parsed)
    arguments |= secrets
    # Whatever the database's default is: who has waited for a lock reads what its last holder committed, and with one
    # snapshot for the transaction would add to sums of before.
    isolated = {"isolation_level": "READ COMMITTED", "pool_pre_ping": True}
    # In half the driver's own time.
    quickly: dict[str, Any] = {"json_deserializer": read_json}
    return create_engine(parsed, connect_args=arguments, **isolated, **quickly, **options)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Enter one read-only snapshot: every query inside sees the same moment.

    Raises:
        StoreUnavailable, NotMigrated: as `store.failures.mapped` says.
    """
    options: dict[str, Any] = {}
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with mapped(engine), engine.connect() as connection:
        yield connection.execution_options(**options)


@contextmanager
def writing(engine: Engine, *, wait_s: float | None = None) -> Iterator[Connection]:
    """Enter one transaction: committed at a clean end, rolled back by any exception.

    Args:
        wait_s: on SQLite, seconds to wait for another writer, if not the engine's timeout.

    Raises:
        StoreUnavailable, NotMigrated: as `store.failures.mapped` says.
    """
    with mapped(engine), engine.connect() as connection, begin(connection, wait_s=wait_s):
        yield connection


def begin(connection: Connection, *, wait_s: float | None = None) -> RootTransaction:
    """Begin a writer's transaction on an open connection; driver errors pass through.

    SQLite takes the write lock at once (BEGIN IMMEDIATE): a transaction that reads first and
    writes later would fail half-way, without waiting, if another writer came between.
    """
    connection.execution_options(sqlite_begin="BEGIN IMMEDIATE", sqlite_wait_s=wait_s)
    return connection.begin()


def _parsed(url: str, named: str) -> URL:
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            url = "postgresql+psycopg2://" + url.removeprefix(scheme)
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise InvalidSettings(f"{named} cannot be read: {without_password(url)!r}.") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidSettings(
            f"{named} must start with postgresql://, postgres:// or sqlite:///, not {without_password(url)!r}."
        )
    if parsed.get_backend_name() == "sqlite" and (parsed.database or ":memory:") == ":memory:":
        raise InvalidSettings(
            f"{named} names an SQLite database in memory, which no two connections share: use sqlite:///FILE."
        )
    return parsed


def _without_secrets(url: URL) -> tuple[URL, dict[str, Any]]:
    """Take the passwords out of a URL's query: whoever shows an engine shows that, and `***` for the one before @."""
    secrets = {name: value for name, value in url.query.items() if name in _SECRETS}
    last = {name: value if isinstance(value, str) else value[-1] for name, value in secrets.items()}
    return url.difference_update_query(last), last


def _prepare_sqlite(engine: Engine, timeout_s: float) -> None:
    """Make every connection durable, its transactions explicit, and able to answer what SQLite cannot."""

    @event.listens_for(engine, "connect")
    def _connected(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # the sqlite3 module must begin nothing on its own
        raw.create_function(paths.SQLITE_FUNCTION, 3, paths.sqlite_holds, deterministic=True)
        _use_wal(raw, timeout_s)
        # FULL: Redis trims what is archived, so a commit must survive a power cut.
        raw.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        wait_s = options.get("sqlite_wait_s")
        if wait_s is not None:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={int(wait_s * 1000)}")
        try:
            connection.exec_driver_sql(options.get("sqlite_begin", "BEGIN"))
        finally:
            if wait_s is not None:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={int(timeout_s * 1000)}")


def _use_wal(raw: Any, timeout_s: float) -> None:
    """Switch the file to WAL: readers and the one writer do not wait for each other.

    The switch needs the file for itself and does not always wait for it, so it is tried again
    while other processes open the same new file.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
            return
        except raw.OperationalError as error:  # PEP 249: the driver's errors hang on its connections
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
