"""Stores events that were never published: no delivery, and a position from the same clock.

The writer holds the `direct` row while it takes positions and inserts. So positions are committed in
order, and none lies at or below history's cursor, whose archiver needs the same row.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from events.encoding import digest
from events.errors import EventIdConflict, HistoryReset, InvalidEvent
from events.event import Event
from events.ports import PositionClock
from events.records import RecordedEvent
from store import cursors, inserts
from store.counting import EventCounts
from store.cursors import Cursor
from store.engine import writing
from store.redactions import redacted
from store.replay import Replay
from store.rows import Unstorable, event_row

ORIGIN = "direct"
IMPORTED = "import"


class DirectWriter:
    """Appends unpublished events to one namespace. Threads may share it."""

    def __init__(self, engine: Engine, namespace: str, clock: PositionClock, replay: Replay) -> None:
        self._engine = engine
        self._namespace = namespace
        self._clock = clock
        self._replay = replay

    def store(self, events: Sequence[Event]) -> list[RecordedEvent]:
        """Store events in the order given, or find those that are stored or published already.

        Correlation and depth come from the cause where it is known; a cause may precede its effect
        in the same call.

        Returns:
            One record for each event, in the same order.

        Raises:
            EventIdConflict: an id is taken by an event with another content.
            InvalidEvent: a value that no database can keep.
            HistoryReset: the clock is behind what is stored.
            StoreUnavailable, NotMigrated, RedisUnavailable.

        Guarantee: all or nothing, and idempotent: after any error the call may be repeated.
        """
        # What is published but not archived is looked up before the lock is held.
        ids = {event.event_id for event in events} | {event.causation_id for event in events if event.causation_id}
        known = self._replay.find_all(ids)
        stored, counts = [], EventCounts(self._namespace)
        with writing(self._engine) as connection:
            latest = self.hold(connection)
            start = latest
            for event in events:
                recorded = self._known(connection, event.event_id, known)
                if recorded is None:
                    latest = self.next_position(latest)
                    recorded = self._insert(connection, latest, event, known, counts)
                elif digest(recorded.event) != digest(event) and not redacted(
                    connection, self._namespace, [event.event_id]
                ):
                    raise EventIdConflict(
                        f"The event_id {event.event_id!r} is taken by another event (type {recorded.event.type.value}, "
                        f"position {recorded.position}): publish a new event with a new id."
                    )
                known[event.event_id] = recorded
                stored.append(recorded)
            if latest != start:
                cursors.move(connection, self._namespace, cursors.DIRECT, Cursor(latest, f"{latest}-0"))
                counts.write(connection)
        return stored

    def horizon(self) -> int:
        """Return a new position: everything at or below it that will ever be there can be read now.

        Whoever stores an event at this moment is waited for, and whoever does later gets a later position.

        Raises:
            HistoryReset, StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        with writing(self._engine) as connection:
            return self.next_position(self.hold(connection))

    def hold(self, connection: Connection) -> int:
        """Hold the row, and return the position that the clock must be beyond."""
        if cursors.lock(connection, self._namespace, cursors.DIRECT) is None:
            cursors.make(connection, self._namespace)
            cursors.lock(connection, self._namespace, cursors.DIRECT)
        return cursors.highest(connection, self._namespace)

    def _known(self, connection: Connection, event_id: str, known: dict[str, RecordedEvent]) -> RecordedEvent | None:
        """Look again now that nobody else inserts: SQL may have got it since."""
        return inserts.stored(connection, self._namespace, [event_id]).get(event_id) or known.get(event_id)

    def next_position(self, latest: int) -> int:
        """Return the next position, while the row is held; raises `HistoryReset` when it is not after the latest."""
        position = self._clock.next_position()
        if position <= latest:
            raise HistoryReset(
                f"Redis gave position {position}, but the store is already at {latest}: the namespace "
                f"{self._namespace!r} was reset. Start a worker, which declares it again, and repeat."
            )
        return position

    def _insert(
        self,
        connection: Connection,
        position: int,
        event: Event,
        known: dict[str, RecordedEvent],
        counts: EventCounts,
    ) -> RecordedEvent:
        cause = known.get(event.causation_id or "")
        correlation_id = (cause and cause.event.correlation_id) or event.correlation_id or event.event_id
        recorded = RecordedEvent(
            position=position,
            event=event.model_copy(update={"correlation_id": correlation_id}),
            depth=cause.depth + 1 if cause else 0,
            origin=ORIGIN,
        )
        try:
            row = event_row(self._namespace, recorded)
        except Unstorable as error:
            raise InvalidEvent([str(error)]) from None
        inserts.insert_events(connection, [row])
        counts.inserted(row)
        return recorded
