"""Imports events that were elsewhere: an export, or another table. Nobody receives them.

    read every row ──> the bad are set aside, with the reason
          └─> spool, in the order of history ──> positions from the clock, causes resolved ──> stored, in batches

An event that is stored or published already is left as it is: so an import that was stopped is gone on with by
doing it again, and importing twice changes nothing. Positions are new ones, because those that events had elsewhere
lie behind readers that have passed them; `origin` says `import`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, Engine

from events.encoding import decode, digest, encode
from events.errors import InvalidEvent
from events.event import Event
from events.records import RecordedEvent
from store import cursors, inserts
from store.counting import EventCounts
from store.cursors import Cursor
from store.direct import IMPORTED, DirectWriter
from store.engine import writing
from store.redactions import redacted
from store.replay import Replay
from store.rows import Unstorable, event_row
from store.spool import Root, Row, Spool
from store.tables import microseconds

BATCH = 500


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of a source: the fields of an event, or why there are none.

    Attributes:
        number: for people, 1 for the first.
        place: where it belongs in the order of the source; None: by its timestamp.
        fields: of an event, as `Event` takes them. reason: why it cannot be read, a sentence; or empty.
        raw: what was read, cut. depth: how far the source says it is from its root.
    """

    number: int
    place: int | None
    fields: dict[str, object]
    reason: str = ""
    raw: str = ""
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was set aside."""

    number: int
    reason: str
    raw: str


@dataclass(slots=True)
class Imported:
    """What became of the rows: stored, known already, or set aside."""

    stored: int = 0
    known: int = 0
    refused: int = 0


class Importer:
    """Imports into one namespace. For one thread."""

    def __init__(self, engine: Engine, namespace: str, direct: DirectWriter, replay: Replay) -> None:
        self._engine = engine
        self._namespace = namespace
        self._direct = direct
        self._replay = replay

    def run(
        self,
        source: Iterable[SourceRow],
        aside: Callable[[Refused], None],
        on_read: Callable[[int], None] = lambda rows: None,
        on_done: Callable[[int], None] = lambda rows: None,
    ) -> Imported:
        """Import a source.

        Args:
            aside: called with each row that cannot be imported.
            on_read, on_done: called now and then with the number of rows read, and stored or known.

        Raises:
            HistoryReset, StoreUnavailable, NotMigrated, RedisUnavailable: what was stored is; import again.
        """
        done = Imported()

        def refuse(number: int, reason: str, raw: str) -> None:
            done.refused += 1
            aside(Refused(number, reason, raw))

        with Spool() as spool:
            for row in source:
                _spool(spool, row, refuse)
                on_read(1)
            for page in spool.pages(BATCH):
                self._store(spool, page, done, refuse)
                on_done(len(page))
        return done

    def _store(self, spool: Spool, page: list[Row], done: Imported, refuse: Callable[[int, str, str], None]) -> None:
        ids = {row.event_id for row in page}
        # What is published but not archived is looked up before the row is held.
        known = self._replay.find_all(ids | {row.causation_id for row in page if row.causation_id})
        placed = self._placed(spool, [row for row in page if row.event_id not in known], known)
        with writing(self._engine) as connection:
            latest = self._direct.hold(connection)
            known |= inserts.stored(connection, self._namespace, [row.event_id for row, _, _ in placed])
            is_redacted = redacted(connection, self._namespace, ids & known.keys())
            for row in page:
                there = known.get(row.event_id)
                if there is None:
                    continue
                if row.event_id in is_redacted or digest(there.event) == digest(decode(row.body)):
                    done.known += 1
                else:
                    taken = f"The event_id {row.event_id!r} is taken by another event, at position {there.position}."
                    refuse(row.number, taken, row.body)
            fresh = [one for one in placed if one[0].event_id not in known]
            done.stored += self._insert(connection, latest, fresh, refuse)

    def _placed(self, spool: Spool, rows: list[Row], known: dict[str, RecordedEvent]) -> list[tuple[Row, Event, int]]:
        """Return the events with the ids of their roots, and their depths."""

        @cache
        def elsewhere(event_id: str) -> Root | None:
            found = known.get(event_id) or self._replay.find(event_id)
            return Root(found.event.correlation_id or event_id, found.depth) if found else None

        placed = []
        for row in rows:
            root = spool.root_of(row, elsewhere)
            placed.append((row, decode(row.body, root.event_id), root.depth))
        return placed

    def _insert(
        self,
        connection: Connection,
        latest: int,
        placed: list[tuple[Row, Event, int]],
        refuse: Callable[[int, str, str], None],
    ) -> int:
        rows = []
        for row, event, depth in placed:
            latest = self._direct.next_position(latest)
            try:
                rows.append(event_row(self._namespace, RecordedEvent(latest, event, depth, (), IMPORTED)))
            except Unstorable as error:
                refuse(row.number, str(error), row.body)
        if rows:
            inserts.insert_events(connection, rows)
            cursors.move(connection, self._namespace, cursors.DIRECT, Cursor(latest, f"{latest}-0"))
            counts = EventCounts(self._namespace)
            for stored in rows:
                counts.inserted(stored)
            counts.write(connection)
        return len(rows)


def _spool(spool: Spool, row: SourceRow, refuse: Callable[[int, str, str], None]) -> None:
    reason = row.reason
    if not reason and not row.fields.get("event_id"):
        reason = "It has no event_id, without which importing it twice would store it twice."
    if not reason and row.fields.get("timestamp") is None:
        reason = "It has no timestamp."
    if not reason:
        try:
            event = Event(**row.fields)
        except InvalidEvent as error:
            reason = str(error)
        else:
            place = microseconds(event.timestamp) if row.place is None else row.place
            spooled = Row(
                event.event_id, place, row.number, encode(event).decode(), event.causation_id, event.correlation_id,
                row.depth,
            )  # fmt: skip
            if not spool.add(spooled):
                reason = f"An earlier row has the event_id {event.event_id!r} too."
    if reason:
        refuse(row.number, reason, row.raw)
