"""Reads history again, in its one order: what is archived from SQL, what is not from Redis.

Reading changes nothing. Positions are the only cursor: exclusive, and resumable for ever.

Up to history's cursor W the answer is final. After W, an event that is being stored without being
published (`origin='direct'`) appears when its transaction commits, so that a reader who keeps
a position beyond W can pass one that is committed late. Published events are never passed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import starmap
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ColumnElement, Connection, Engine, Select, func, select

from events.budget import READ_BYTES, Budget
from events.ports import HistoryTail, TailPage
from events.records import RecordedEvent
from store import inserts
from store.engine import reading
from store.filter import EventFilter, check_position
from store.planning import hidden
from store.rows import RECORDED, recorded, recorded_columns, size_of_row
from store.seam import MovedOn, Seam
from store.tables import events

__all__ = ["EventFilter", "Page", "Replay", "size_of"]

_EVERYTHING = EventFilter()
_NO_END = 2**63
# A filter may leave out most of a stretch of the tail: this many are looked at for one page.
_TAIL_LOOK = 1000
_MOST = 2**63 - 1  # rows, that a database may be asked for
# Events in a time range, up to which SQLite finds them by their times.
_SHORT = 5000


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of history.

    Attributes:
        events: those that match, ascending by position.
        last: position of the last event looked at, matching or not; ask for the next page after it.
        complete: True when nothing followed when the page was read. A page that is not complete may
            be short, even empty.
    """

    events: tuple[RecordedEvent, ...]
    last: int
    complete: bool


class Replay:
    """History of one namespace, for reading. Threads may share it.

    Args:
        tail: what Redis has and SQL may not have yet; None reads SQL only.
    """

    def __init__(self, engine: Engine, namespace: str, tail: HistoryTail | None) -> None:
        self._engine = engine
        self._namespace = namespace
        self.seam = Seam(engine, namespace, tail)

    def page(
        self,
        filter: EventFilter = _EVERYTHING,
        after: int = 0,
        limit: int = 500,
        *,
        size_bytes: int = READ_BYTES,
    ) -> Page:
        """Read one stretch of history.

        Args:
            after: a position, exclusive; 0 is the beginning.
            limit: most events to return, at least 1.
            size_bytes: about how many bytes of payloads and metadata to read from SQL; one event at least. Of what
                is not archived up to `READ_BYTES` are read besides.

        Raises:
            InvalidFilter: there is no such position.
            StoreUnavailable, NotMigrated, RedisUnavailable.

        Guarantee: pages that follow each other have no gap and no repeat while archiving goes on.
        """
        if limit < 1:
            raise ValueError(f"The limit of a page must be at least 1, not {limit}.")
        check_position(after)
        return self.seam.steadily(lambda: self._page(filter, after, limit, size_bytes))

    def iterate(
        self, filter: EventFilter = _EVERYTHING, after: int = 0, *, page: int = 1000
    ) -> Iterator[RecordedEvent]:
        """Iterate over history from a position (exclusive) until its end, a page in memory at a time.

        No connection is held between pages; stop and resume from the last event's position at will.

        Raises:
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        complete = False
        while not complete:
            stretch = self.page(filter, after, page)
            yield from stretch.events
            after, complete = stretch.last, stretch.complete

    def find(self, event_id: str) -> RecordedEvent | None:
        """Return the event of that id, archived or not; None when there is none.

        Raises:
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        return self.find_all([event_id]).get(event_id)

    def find_all(self, event_ids: Collection[str]) -> dict[str, RecordedEvent]:
        """Return those of the named events that exist, archived or not, by id.

        Raises:
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        return self.seam.steadily(lambda: self._find_all(event_ids))

    def count(self, filter: EventFilter = _EVERYTHING, after: int = 0) -> int:
        """Count the events after a position that match, archived or not.

        Raises:
            InvalidFilter: there is no such position.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        check_position(after)
        return self.seam.steadily(lambda: self._count(filter, after))

    def _page(self, filter: EventFilter, after: int, limit: int, size_bytes: int) -> Page:
        with reading(self._engine) as connection:
            archived = self.seam.archived(connection)
            rows, full = self._rows(connection, filter, after, limit, size_bytes)
        if full and rows[-1].position <= archived:
            return Page(tuple(rows), rows[-1].position, False)
        try:
            tail = self.seam.page(max(after, archived), _TAIL_LOOK)
        except MovedOn:
            if archived <= after:
                raise
            # What SQL had is right as far as it goes; the rest is in SQL by now, for the next page.
            return Page(tuple(row for row in rows if row.position <= archived), archived, False)
        return _joined(rows, full, tail, filter, limit)

    def _rows(
        self, connection: Connection, filter: EventFilter, after: int, limit: int, size_bytes: int
    ) -> tuple[list[RecordedEvent], bool]:
        """Return rows after a position, and whether limit or size ended them.

        PostgreSQL keeps the answer, which is fetched a chunk at a time: what lies beyond the budget never comes here.
        """
        found: list[RecordedEvent] = []
        budget = Budget(limit, max(size_bytes, 1))
        with connection.execute(self._query(connection, filter, after, min(limit, _MOST))) as rows:
            while ask := budget.chunk():
                chunk = rows.fetchmany(ask)
                found += starmap(recorded, chunk)
                if len(chunk) < ask:
                    return found, False
                for row in chunk:
                    budget.spend(size_of_row(row))
        return found, True

    def _query(self, connection: Connection, filter: EventFilter, after: int, limit: int) -> Select[Any]:
        """Return what reads the rows after a position in their order, each not before it is fetched.

        Where an index does not give the order, the database sorts. Large payloads stay where they are meanwhile: those
        of a page that its size ends would be read for nothing, page after page.
        """
        dialect, column = connection.dialect.name, events.c
        is_hidden = dialect == "sqlite" and self._is_short(connection, filter)
        place: ColumnElement[int] = hidden(column.position, dialect) if is_hidden else column.position
        wanted = (*filter.conditions(self._namespace, dialect), place > after)
        if is_hidden:
            places = select(column.position).where(*wanted).order_by(column.position).limit(limit)
            in_places = column.namespace == self._namespace, column.position.in_(places.scalar_subquery())
            query = select(*RECORDED).where(*in_places).order_by(column.position)
        elif dialect == "sqlite":  # its key gives the order
            query = select(*RECORDED).where(*wanted).order_by(column.position).limit(limit)
        else:
            some = select(events).where(*wanted).order_by(column.position).limit(limit).subquery("page")
            query = select(*recorded_columns(some.c)).order_by(some.c.position)
        return query.execution_options(stream_results=True)

    def _is_short(self, connection: Connection, filter: EventFilter) -> bool:
        """Tell whether a filter's time range holds few events, so that reading all of them for each page is best.

        SQLite knows no numbers of its own about that, and would read history from its key on, whatever the range.
        """
        in_range = filter.time_range()
        if not in_range:
            return False
        some = select(events.c.position).where(events.c.namespace == self._namespace, *in_range).limit(_SHORT + 1)
        return int(connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()) <= _SHORT

    def _find_all(self, event_ids: Collection[str]) -> dict[str, RecordedEvent]:
        with reading(self._engine) as connection:
            found = inserts.stored(connection, self._namespace, event_ids)
            archived = self.seam.archived(connection)
        if len(found) < len(event_ids):
            for recorded in self.seam.events(archived):
                if recorded.event.event_id in event_ids:
                    found.setdefault(recorded.event.event_id, recorded)
        return found

    def _count(self, filter: EventFilter, after: int) -> int:
        unarchived = self.seam.unarchived(lambda one: (one.position > after and filter.matches(one.event)) or None)
        with reading(self._engine) as connection:
            wanted = filter.conditions(self._namespace, connection.dialect.name)
            since = [events.c.position > after] if after else []
            query = select(func.count()).select_from(events).where(*wanted, *since)
            stored = int(connection.execute(query).scalar_one())
            return stored + len(self.seam.left(connection, unarchived))


def size_of(recorded: RecordedEvent) -> int:
    """Return about how many bytes an event has: those of what may be large, its payload and metadata."""
    parts = (recorded.event.payload, recorded.event.metadata)
    try:
        return len(to_json(parts))
    except ValueError:  # nested deeper than the quick writer goes
        return len(json.dumps(parts))


def _joined(rows: list[RecordedEvent], full: bool, tail: TailPage, filter: EventFilter, limit: int) -> Page:
    """Merge rows and a page of the tail by position, up to where both are known.

    Rows beyond W were stored without being published and lie among the tail's events. A full set of
    rows is known up to its last; an incomplete tail up to its last.
    """
    horizon = min(rows[-1].position if full else _NO_END, _NO_END if tail.complete else tail.last_position)
    found = [row for row in rows if row.position <= horizon]
    found += [r for r in tail.events if r.position <= horizon and filter.matches(r.event)]
    found.sort(key=lambda recorded: recorded.position)
    if len(found) > limit:
        return Page(tuple(found[:limit]), found[limit - 1].position, False)
    if horizon < _NO_END:
        return Page(tuple(found), horizon, False)
    return Page(tuple(found), max([tail.last_position, *(recorded.position for recorded in found)]), True)
