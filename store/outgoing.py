"""The relay's side of the outbox: what is to be published, in order, and what became of it.

    pending ──published──> published (position) ──the store has the event──> gone
       └──refused──> refused (reason)          either is tried again when it has been left alone for long

Invariants: an event whose `add` was committed is here until the store has it, whatever becomes of Redis; rows
are found by their state, never after a cursor, so that none is skipped that commits late with a smaller id.

On PostgreSQL one relay at a time holds the row `outbox` of `archive`, while it publishes; others stand by. On
SQLite such a lock would stop every writer of the file as long as Redis is asked, so relays may overlap. That
is harmless: each publishes in the order of ids, and publishing again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Engine, Text, and_, bindparam, case, cast, exists, func, or_, select

from events.encoding import decode, digest
from events.errors import MalformedEntry
from events.event import Event
from store import cursors
from store.direct import ORIGIN
from store.engine import reading, writing
from store.inserts import stored
from store.outbox import PENDING
from store.tables import event_index, events, outbox, rejected

PUBLISHED = "published"
REFUSED = "refused"
MOST_EVENTS = 500
MOST_BYTES = 4_000_000
# How long PostgreSQL lets a relay hold its row without a word, then ends its session (see `store/archive.py`).
SILENT_RELAY_S = 30.0
# SQLite allows 32,766 parameters in one statement, older ones 999; a mark takes three.
_CHUNK = 300


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows of the outbox in one state; `oldest` was added first, `error` is the newest one's reason."""

    state: str
    count: int
    oldest: datetime
    error: str


@dataclass(slots=True)
class Batch:
    """What a relay takes at once; used by one thread, and written when `Outgoing.batch` is left.

    Attributes:
        events: to be published, in this order, by their rows.
        again: those of them that were tried before.
        published: positions of those that were. refused: why others were not.
        gone: rows whose event the store has.
    """

    events: dict[int, Event] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)
    published: dict[int, int] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)

    @property
    def has_changed(self) -> bool:
        return bool(self.published or self.refused or self.gone)


class Outgoing:
    """The outbox of one namespace, as its relays see it. Threads may share it.

    Args:
        silent_relay_s: seconds after which PostgreSQL takes the row from a relay that does nothing.
    """

    def __init__(self, engine: Engine, namespace: str, silent_relay_s: float = SILENT_RELAY_S) -> None:
        self._engine = engine
        self._namespace = namespace
        self._is_postgresql = engine.dialect.name == "postgresql"
        self._silent_relay_ms = int(silent_relay_s * 1000)
        self._made = False

    @contextmanager
    def batch(self, again_before: datetime) -> Iterator[Batch]:
        """Enter a batch of at most 500 new events or about 4 MB; what became of them is committed at a clean end.

        An exception inside leaves every row as it was: what was published is published again.

        Args:
            again_before: after what is pending, as much again of what was tried last before this moment.

        Yields:
            The batch; without events when there are none, or when another relay is at it.

        Raises:
            StoreUnavailable, NotMigrated: what became of the batch may or may not be written.
        """
        with reading(self._engine) as connection:
            is_empty = connection.execute(select(outbox.c.id).where(self._mine()).limit(1)).one_or_none() is None
        if is_empty:
            yield Batch()
        elif self._is_postgresql:
            self._make_row()
            with writing(self._engine) as connection:
                batch = self._read(connection, again_before) if self._hold(connection) else Batch()
                yield batch
                self._write(connection, batch)
        else:
            with reading(self._engine) as connection:
                batch = self._read(connection, again_before)
            yield batch
            if batch.has_changed:
                with writing(self._engine) as connection:
                    self._write(connection, batch)

    def waiting(self) -> list[Waiting]:
        """Return what is in the outbox, by state; states that no row has are left out.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        column = outbox.c
        newest = select(column.error).where(self._mine(), column.state == REFUSED).order_by(column.id.desc()).limit(1)
        counts = (
            select(column.state, func.count(), func.min(column.added_at, type_=column.added_at.type))
            .where(self._mine())
            .group_by(column.state)
            .order_by(column.state)
        )
        with reading(self._engine) as connection:
            error = connection.execute(newest).scalar_one_or_none() or ""
            return [
                Waiting(state, count, oldest, error if state == REFUSED else "")
                for state, count, oldest in connection.execute(counts)
            ]

    def _mine(self) -> ColumnElement[bool]:
        return outbox.c.namespace == self._namespace

    def _make_row(self) -> None:
        """Make the row to hold, in a transaction of its own: an uncommitted row would block the others."""
        if not self._made:
            with writing(self._engine) as connection:
                cursors.make(connection, self._namespace, [cursors.OUTBOX])
            self._made = True

    def _hold(self, connection: Connection) -> bool:
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {self._silent_relay_ms}")
        self._made = cursors.lock(connection, self._namespace, cursors.OUTBOX, wait=False) is not None
        return self._made

    def _read(self, connection: Connection, again_before: datetime) -> Batch:
        batch = Batch(gone=self._stored(connection))
        state, tried_at = outbox.c.state, outbox.c.tried_at
        pending = self._bodies(connection, state == PENDING)
        left_alone = and_(state.in_([PUBLISHED, REFUSED]), tried_at < again_before)
        overdue = self._bodies(connection, and_(left_alone, outbox.c.id.not_in(batch.gone)))
        batch.again.update(row for row, _ in overdue)
        for row, body in pending + overdue:
            try:
                batch.events[row] = decode(body)
            except MalformedEntry as error:
                batch.refused[row] = str(error)
        self._leave_out_the_known(connection, batch)
        return batch

    def _stored(self, connection: Connection) -> list[int]:
        """Return published rows whose event the store has, or has set aside by name.

        One that was persisted before it was published is set aside when its publication is archived. Until then
        only Redis knows who is to get it.
        """
        column, index, aside = outbox.c, event_index.c, rejected.c
        is_stored = (
            exists()
            .where(index.namespace == column.namespace, index.event_id == column.event_id)
            .where(events.c.namespace == column.namespace, events.c.position == index.position)
            .where(events.c.origin != ORIGIN)
        )
        entry_id = cast(column.position, Text) + "-0"
        is_aside = exists().where(
            aside.namespace == column.namespace, aside.stream == "history", aside.entry_id == entry_id
        )
        query = select(column.id).where(self._mine(), column.state == PUBLISHED, or_(is_stored, is_aside))
        return list(connection.execute(query.order_by(column.id).limit(2 * MOST_EVENTS)).scalars())

    def _bodies(self, connection: Connection, condition: ColumnElement[bool]) -> list[tuple[int, str]]:
        """Return the first rows that meet a condition, as many as one script call publishes; one at least."""
        column = outbox.c
        first = select(column.id, column.size_bytes).where(self._mine(), condition).order_by(column.id)
        first = first.limit(MOST_EVENTS)
        chosen: list[int] = []
        size = 0
        for row, size_bytes in connection.execute(first):
            size += size_bytes
            if chosen and size > MOST_BYTES:
                break
            chosen.append(row)
        query = select(column.id, column.body).where(column.id.in_(chosen)).order_by(column.id)
        return [(row, body) for row, body in connection.execute(query)] if chosen else []

    def _leave_out_the_known(self, connection: Connection, batch: Batch) -> None:
        """Take out what the store has: Redis may have forgotten its id, and would publish it twice.

        An event that was stored without being published is published, as `publish` would.
        """
        known = stored(connection, self._namespace, [event.event_id for event in batch.events.values()])
        for row, event in list(batch.events.items()):
            found = known.get(event.event_id)
            if found is None:
                continue
            if digest(found.event) != digest(event):
                batch.refused[row] = (
                    f"The event id {event.event_id!r} is taken by an event with another content (at position "
                    f"{found.position})."
                )
            elif found.origin == ORIGIN:
                continue
            else:
                batch.gone.append(row)
            del batch.events[row]

    def _write(self, connection: Connection, batch: Batch) -> None:
        now, column = datetime.now(UTC), outbox.c
        tried = {"tried_at": now, "attempts": column.attempts + 1}
        for rows in _chunks(list(batch.published)):
            position = case({row: batch.published[row] for row in rows}, value=column.id)
            connection.execute(
                outbox.update().where(column.id.in_(rows)).values(state=PUBLISHED, error="", position=position, **tried)
            )
        if batch.refused:
            refused = outbox.update().where(column.id == bindparam("row"))
            connection.execute(
                refused.values(state=REFUSED, error=bindparam("reason"), **tried),
                [{"row": row, "reason": reason} for row, reason in batch.refused.items()],
            )
        for rows in _chunks(batch.gone):
            connection.execute(outbox.delete().where(column.id.in_(rows)))


def _chunks(rows: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]
