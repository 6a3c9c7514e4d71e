"""The rows of `archive`: how far each stream is archived, and the locks that order its writers.

Three rows a namespace, counters, and locks:

    history     held by the one archiver of history
    outcomes    held by the one archiver of outcomes
    direct      held by whoever inserts events: it serialises the archiver with those who store an
                event without publishing it, so that no event appears at or below history's cursor
                once the cursor is there. Its position is the last one stored that way.
    deliveries  no stream, only a lock: held by whoever folds deliveries, at the end of its transaction
    lives       no stream: its position counts the subscribers that began with a back-fill, so that no two
                lives of one name are alike, and the redeliveries that were asked for; made with the first
    pruned_events, pruned_deliveries  no streams: their positions count rows that prune removed and the
                statistics still have; made with the first
    outbox      no stream: held by the one relay of the outbox on PostgreSQL; its position stays 0; made by the first

Locks are taken in the order history, outcomes, direct, deliveries: they cannot deadlock. SQLite has one
writer at a time anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from store.tables import archive

Stream = Literal["history", "outcomes"]
Insert = postgresql.Insert | sqlite.Insert
DIRECT = "direct"
DELIVERIES = "deliveries"
LIVES = "lives"
OUTBOX = "outbox"
PRUNED_EVENTS = "pruned_events"
PRUNED_DELIVERIES = "pruned_deliveries"
COUNTERS = (LIVES, PRUNED_EVENTS, PRUNED_DELIVERIES)
NOTHING_YET = "0-0"
STREAMS = ("history", "outcomes", DIRECT, DELIVERIES)
# Made once: every question asks it.
_CURSOR = select(archive.c.position, archive.c.last_entry).where(
    archive.c.namespace == bindparam("namespace"), archive.c.stream == bindparam("stream")
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream is archived.

    Attributes:
        position: everything up to here is in SQL; 0 at the beginning.
        last_entry: id of the last stream entry looked at; `0-0` at the beginning.
    """

    position: int
    last_entry: str


def read(connection: Connection, namespace: str, stream: str) -> Cursor:
    """Return a stream's cursor, without locking it."""
    row = connection.execute(_CURSOR, {"namespace": namespace, "stream": stream}).one_or_none()
    return Cursor(*row) if row else Cursor(0, NOTHING_YET)


def lock(connection: Connection, namespace: str, stream: str, *, wait: bool = True) -> Cursor | None:
    """Hold a stream's row until the transaction ends.

    Returns:
        The cursor; None when another transaction holds the row and `wait` is False, or when the
        row is missing.
    """
    row = connection.execute(_row(namespace, stream).with_for_update(skip_locked=not wait)).one_or_none()
    return Cursor(*row) if row else None


def exists(connection: Connection, namespace: str) -> bool:
    """Tell whether the namespace's rows were made."""
    return connection.execute(_row(namespace, DIRECT)).one_or_none() is not None


def make(connection: Connection, namespace: str, streams: Sequence[str] = STREAMS) -> None:
    """Insert the namespace's rows where they are missing."""
    rows = [{"namespace": namespace, "stream": stream, "position": 0, "last_entry": NOTHING_YET} for stream in streams]
    connection.execute(insert(connection, archive).on_conflict_do_nothing(), rows)


def move(connection: Connection, namespace: str, stream: str, cursor: Cursor) -> None:
    """Write a stream's cursor; the caller holds its row."""
    connection.execute(
        archive.update()
        .where(archive.c.namespace == namespace, archive.c.stream == stream)
        .values(position=cursor.position, last_entry=cursor.last_entry)
    )


def highest(connection: Connection, namespace: str) -> int:
    """Return the largest position that the store knows; 0 when it is empty. A few rows are read."""
    query = select(func.max(archive.c.position)).where(
        archive.c.namespace == namespace, archive.c.stream.not_in(COUNTERS)
    )
    return int(connection.execute(query).scalar() or 0)


def next_life(connection: Connection, namespace: str) -> int:
    """Count one subscriber more that begins with a back-fill; return how many there were with it."""
    return count(connection, namespace, LIVES, 1)


def count(connection: Connection, namespace: str, counter: str, more: int) -> int:
    """Count that many more; return how many there are with them."""
    row = {"namespace": namespace, "stream": counter, "position": more, "last_entry": NOTHING_YET}
    statement = insert(connection, archive)
    counted = statement.on_conflict_do_update(
        index_elements=[archive.c.namespace, archive.c.stream],
        set_={"position": archive.c.position + statement.excluded.position},
    )
    return int(connection.execute(counted.returning(archive.c.position), row).scalar_one())


def insert(connection: Connection, table: Table) -> Insert:
    """Return an INSERT that can be told what to do on a conflict, in the database's dialect."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _row(namespace: str, stream: str) -> Select[Any]:
    return select(archive.c.position, archive.c.last_entry).where(
        archive.c.namespace == namespace, archive.c.stream == stream
    )
