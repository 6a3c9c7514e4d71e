"""Copies history and outcomes into SQL: exactly once, in order, one writer of each stream at a time.

The rows and the cursor that says they are there commit in one transaction. Who reads the streams
and when is the archiver's affair (`workers/archiver.py`); nothing here knows Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, RootTransaction, exc

from store import cursors
from store.cursors import Cursor, Stream
from store.engine import begin, reading, writing
from store.failures import is_busy, mapped
from store.outgoing import Outgoing
from store.writer import ArchiveWriter

# How long an archiver waits for another writer of the same SQLite file before it stands by.
_SQLITE_WAIT_S = 0.25
# How long PostgreSQL lets a writer hold its row without a word, then ends its session: an archiver that is
# frozen (SIGSTOP, a paused container) must not keep the others from archiving. Far above what a batch takes
# between two statements: a few reads from Redis.
SILENT_WRITER_S = 30.0


class Archive:
    """The store's side of archiving one namespace. Threads may share it.

    Args:
        silent_writer_s: seconds after which PostgreSQL takes the row from a writer that does nothing; its
            next statement, and so its commit, fails. SQLite has no such thing.
    """

    def __init__(self, engine: Engine, namespace: str, silent_writer_s: float = SILENT_WRITER_S) -> None:
        self._engine = engine
        self._namespace = namespace
        self._silent_writer_ms = int(silent_writer_s * 1000)
        self._made = False

    def cursor(self, stream: Stream) -> Cursor:
        """Return how far a stream is archived; locks nothing.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        with reading(self._engine) as connection:
            return cursors.read(connection, self._namespace, stream)

    @contextmanager
    def writer(self, stream: Stream) -> Iterator[ArchiveWriter | None]:
        """Enter the transaction of the stream's one writer; committed at a clean end, else rolled back.

        Yields:
            The writer, or None at once when another archiver holds the stream: stand by.

        Raises:
            StoreUnavailable, NotMigrated: what was being written may or may not be committed; the
                next writer's cursor tells.
        """
        self._make_rows()
        with mapped(self._engine), self._engine.connect() as connection:
            transaction = _begin_unless_busy(connection)
            if transaction is None:
                yield None
                return
            with transaction:
                cursor = self._hold(connection, stream)
                if cursor is None:
                    yield None
                    return
                writer = ArchiveWriter(connection, self._namespace, stream, cursor)
                yield writer
                writer.finish()

    @property
    def outgoing(self) -> Outgoing:
        """What callers' transactions want to have published."""
        return Outgoing(self._engine, self._namespace)

    def highest_position(self) -> int:
        """Return the largest position stored or archived; 0 when there is none. A reset clock is lifted to it.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        with reading(self._engine) as connection:
            return cursors.highest(connection, self._namespace)

    def _make_rows(self) -> None:
        """Make the rows to lock, in a transaction of its own: an uncommitted row would block the others."""
        if self._made:
            return
        with reading(self._engine) as connection:
            self._made = cursors.exists(connection, self._namespace)
        if not self._made:
            with writing(self._engine) as connection:
                cursors.make(connection, self._namespace)
            self._made = True

    def _hold(self, connection: Connection, stream: Stream) -> Cursor | None:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {self._silent_writer_ms}")
        cursor = cursors.lock(connection, self._namespace, stream, wait=False)
        if cursor is None:
            self._made = False  # held by another, or dropped with the schema: look next time
        elif stream == "history":
            cursors.lock(connection, self._namespace, cursors.DIRECT)
        return cursor


def _begin_unless_busy(connection: Connection) -> RootTransaction | None:
    try:
        return begin(connection, wait_s=_SQLITE_WAIT_S)
    except exc.OperationalError as error:
        if is_busy(error):
            return None
        raise
