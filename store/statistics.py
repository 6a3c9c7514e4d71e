"""Numbers about events and deliveries: per project, type, actor, subscriber, day, hour; of a project or of all.

Read from two small tables that are kept in the transactions that store events and outcomes, so an answer
costs a few rows whatever the history; docs/statistics.md says what they hold. Events that are not archived
yet are added from Redis.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, select

from events.errors import InvalidFilter
from events.ports import HistoryTail
from events.records import RecordedEvent
from store.counting import TOTAL, EventCounts, Key, Tally, tallies
from store.engine import reading
from store.inserts import chunks
from store.numbers import (
    ALL_TYPES,
    ActorStatistics,
    BucketStatistics,
    DeliveryStatistics,
    ProjectNumbers,
    ProjectStatistics,
    TypeStatistics,
    delivery_numbers,
    event_numbers,
    handled_numbers,
)
from store.rows import Unstorable, event_row
from store.seam import Seam, Unarchived
from store.statistics_rows import Rows
from store.tables import delivery_statistics, event_statistics, microseconds
from store.tally import DeliveryTally, EventTally

Grain = Literal["day", "hour"]
Order = Literal["cost", "recent"]
Counted = dict[str, Any]
Place = tuple[int, int, str]
"""Where a project is in an order; the least place comes first."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PAGE = 1000
_COUNTED = ("project_id", "type", "actor", "timestamp", "cost_micros", "currency", "latency_us")
_LAST_START_US = 253_402_300_799_999_999  # no datetime is later

# Where the parts of a key are: of a row of `event_statistics`, and of `delivery_statistics`.
_PROJECT, _START = 1, 2
_TYPE, _ACTOR = 3, 4
_SUBSCRIBER, _HANDLED_TYPE, _HANDLED_ACTOR = 3, 4, 5


class Statistics:
    """Numbers about one namespace. Threads may share it.

    Args:
        tail: what Redis has and SQL may not have yet; None reads SQL only.
    """

    def __init__(self, engine: Engine, namespace: str, tail: HistoryTail | None) -> None:
        self._engine = engine
        self._namespace = namespace
        self._seam = Seam(engine, namespace, tail)

    def project(self, project_id: str | None = None) -> ProjectStatistics:
        """Return the numbers of one project, or of all; zeros when it has no events.

        Raises:
            InvalidFilter: the project's id holds U+0000 or a lone surrogate, which no event holds.
            StoreUnavailable, NotMigrated, RedisUnavailable.

        Guarantee: exact, percentiles within 1/128, over every event published before the call, archived or not;
            what became of deliveries as far as archived.
        """
        wanted = Rows(project_id, TOTAL)
        events, handled = self._both(wanted)
        by_type, by_actor = _by(events, _TYPE), _by(events, _ACTOR)
        of_type, of_actor = _by(handled, _HANDLED_TYPE), _by(handled, _HANDLED_ACTOR)
        total, of_all = _together(by_type.values(), EventTally()), _together(of_type.values(), DeliveryTally())
        types = [TypeStatistics(type=key, **handled_numbers(by_type[key], of_type.get(key))) for key in by_type]
        actors = [ActorStatistics(actor=key, **handled_numbers(by_actor[key], of_actor.get(key))) for key in by_actor]
        return ProjectStatistics(
            project_id,
            tuple(sorted(types, key=lambda one: one.type)),
            TypeStatistics(type=ALL_TYPES, **handled_numbers(total, of_all)),
            tuple(sorted(actors, key=lambda one: one.actor)),
        )

    def projects(self, limit: int = 20, *, search: str = "", order: Order = "cost") -> list[ProjectNumbers]:
        """Return the numbers of those projects that cost most, then of those that have most events.

        Costs are compared as numbers, whatever their currencies.

        Args:
            limit: at most so many; at least 1.
            search: only those whose name holds this text, whichever case.
            order: `recent` asks for those with the latest event instead, latest first.

        Raises:
            InvalidFilter: the limit is none, or there is no such order.
            StoreUnavailable, NotMigrated, RedisUnavailable.

        Guarantee: as `project`. Time grows with the number of projects; memory with the limit, and with what is not
            archived.
        """
        return [numbers for _, numbers in self.projects_after(None, limit, search=search, order=order)]

    def projects_after(
        self, after: Place | None, limit: int, *, search: str = "", order: Order = "cost"
    ) -> list[tuple[Place, ProjectNumbers]]:
        """Return a page of what `projects` returns, each with its place.

        One whose place moves meanwhile, because something is published of it, may be in two pages, or in none.

        Args:
            after: the place of the last one of the page before, in the same order; None for the first page.

        Raises:
            InvalidFilter, StoreUnavailable, NotMigrated, RedisUnavailable: as `projects` does.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidFilter(f"The limit of projects must be a whole number of at least 1, not {limit!r:.80}.")
        if order not in ("cost", "recent"):
            raise InvalidFilter(f"The order of projects is 'cost' or 'recent', not {order!r:.80}.")
        wanted = Rows(None, TOTAL, is_each=True)
        places, found = self._seam.steadily(lambda: self._first(wanted, limit, search.casefold(), order, after))
        handled: dict[str, DeliveryTally] = {}
        with reading(self._engine) as connection:
            for names in chunks([*found]):
                of = delivery_statistics.c.project_id.in_(names)
                handled |= _by(dict(self._read(connection, delivery_statistics, DeliveryTally, wanted, of)), _PROJECT)
        return [
            (place, ProjectNumbers(project_id=place[-1], **handled_numbers(found[place[-1]], handled.get(place[-1]))))
            for place in places
        ]

    def series(
        self,
        project_id: str | None = None,
        grain: Grain = "day",
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[BucketStatistics]:
        """Return the numbers of one project, or of all, by day or hour (UTC) of the events' timestamps.

        Args:
            start: buckets that end after it; a naive one is read as UTC. None: from the first.
            end: buckets that begin before it; a naive one is read as UTC. None: to the last.

        Returns:
            One for each bucket that has events, in order; whole buckets, also where the range begins or ends
            inside one.

        Raises:
            InvalidFilter: as `project`; the range is reversed, or there is no such grain.
            StoreUnavailable, NotMigrated, RedisUnavailable.

        Guarantee: as `project`.
        """
        by_start = _by(self._events(Rows.of_time(project_id, grain, start, end)), _START)
        return [BucketStatistics(start=_moment(at), **event_numbers(by_start[at])) for at in sorted(by_start)]

    def deliveries(self, project_id: str | None = None) -> list[DeliveryStatistics]:
        """Return what deliveries of one project, or of all, came to: by subscriber, as far as they are archived.

        A delivery whose event is not archived yet is counted for all projects only.

        Raises:
            InvalidFilter: as `project`.
            StoreUnavailable, NotMigrated.
        """
        found = _by(self._handled(Rows(project_id, TOTAL)), _SUBSCRIBER)
        return [DeliveryStatistics(subscriber=name, **delivery_numbers(found[name])) for name in sorted(found)]

    def delivery_series(
        self,
        project_id: str | None = None,
        grain: Grain = "day",
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[DeliveryStatistics]:
        """Return the same by day or hour (UTC) in which the events were published, then by subscriber.

        Args and Raises as in `series`; a delivery's attempts count where its event does.
        """
        found = _by(self._handled(Rows.of_time(project_id, grain, start, end)), _START, _SUBSCRIBER)
        return [
            DeliveryStatistics(subscriber=name, start=_moment(at), **delivery_numbers(found[at, name]))
            for at, name in sorted(found)
        ]

    def senders(self) -> list[tuple[str, str]]:
        """Return who has published what in all projects: pairs of type and actor, sorted.

        Raises:
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        return sorted(_by(self._events(Rows(None, TOTAL)), _TYPE, _ACTOR))

    def sums(self) -> tuple[dict[str, EventTally], dict[str, DeliveryTally]]:
        """Return what was added up of all projects: of events by type, and of deliveries by subscriber.

        Raises:
            StoreUnavailable, NotMigrated, RedisUnavailable.

        Guarantee: as `project`; no sum ever gets smaller, but for a recount, and for `waiting`.
        """
        events, handled = self._both(Rows(None, TOTAL))
        return _by(events, _TYPE), _by(handled, _SUBSCRIBER)

    def _events(self, wanted: Rows) -> dict[Key, EventTally]:
        """Return the archived sums and those of the tail, by key."""

        def read() -> dict[Key, EventTally]:
            unarchived = self._seam.unarchived(_counted)
            with reading(self._engine) as connection:
                return self._events_in(connection, unarchived, wanted)

        return self._seam.steadily(read)

    def _both(self, wanted: Rows) -> tuple[dict[Key, EventTally], dict[Key, DeliveryTally]]:
        """Return the same, and the sums of deliveries in the same snapshot."""

        def read() -> tuple[dict[Key, EventTally], dict[Key, DeliveryTally]]:
            unarchived = self._seam.unarchived(_counted)
            with reading(self._engine) as connection:
                found = self._events_in(connection, unarchived, wanted)
                return found, dict(self._read(connection, delivery_statistics, DeliveryTally, wanted))

        return self._seam.steadily(read)

    def _events_in(
        self, connection: Connection, unarchived: Sequence[Unarchived[Counted]], wanted: Rows
    ) -> dict[Key, EventTally]:
        """Return the sums in a snapshot, and those of what it does not have of the tail."""
        found = dict(self._read(connection, event_statistics, EventTally, wanted))
        for key, tally in self._left(connection, unarchived, wanted):
            found.setdefault(key, EventTally()).merge(tally)
        return found

    def _first(
        self, wanted: Rows, limit: int, search: str, order: Order, after: Place | None
    ) -> tuple[list[Place], dict[str, EventTally]]:
        """Return the first places in an order, after a place, and the sums of these projects, by name.

        They are ranked by a few numbers each, then read whole.
        """
        unarchived = self._seam.unarchived(_counted)
        with reading(self._engine) as connection:
            left = _by(dict(self._left(connection, unarchived, wanted)), _PROJECT)
            ranks = (rank for rank in self._ranks(connection, wanted, left, order) if search in rank[-1].casefold())
            places = heapq.nsmallest(limit, (rank for rank in ranks if after is None or rank > after))
            names = [name for *_, name in places]
            found = {name: left.get(name, EventTally()) for name in names}
            for some in chunks(names):
                of = event_statistics.c.project_id.in_(some)
                for key, tally in self._read(connection, event_statistics, EventTally, wanted, of):
                    found[key[_PROJECT]].merge(tally)
        return places, found

    def _ranks(
        self, connection: Connection, wanted: Rows, left: Mapping[str, EventTally], order: Order
    ) -> Iterator[Place]:
        """Iterate over projects' ranks, the least first, each with the name; a page of rows in memory at a time."""
        column = event_statistics.c
        query = self._query(event_statistics, wanted).with_only_columns(
            column.project_id, column.cost_micros, column.events, column.last_time
        )
        unseen = dict(left)
        for name, rows in groupby(connection.execute(query), lambda row: row[0]):
            tally = unseen.pop(name, EventTally())
            cost, count, last = sum(tally.cost_micros.values()), tally.events, tally.last_time
            for _, cost_micros, events, last_time in rows:
                cost, count = cost + sum(cost_micros.values()), count + events
                last = last_time if last is None else max(last, last_time)
            yield _rank(order, cost, count, last, name)
        for name, tally in unseen.items():
            yield _rank(order, sum(tally.cost_micros.values()), tally.events, tally.last_time, name)

    def _left(
        self, connection: Connection, unarchived: Sequence[Unarchived[Counted]], wanted: Rows
    ) -> Iterator[tuple[Key, EventTally]]:
        """Iterate over the sums of those events that a snapshot of the database does not count."""
        counts = EventCounts("")
        for row in self._seam.left(connection, unarchived):
            counts.inserted(row)
        yield from ((key, tally) for key, tally in counts.spread().items() if key in wanted)

    def _handled(self, wanted: Rows) -> dict[Key, DeliveryTally]:
        with reading(self._engine) as connection:
            return dict(self._read(connection, delivery_statistics, DeliveryTally, wanted))

    def _read(
        self, connection: Connection, table: Table, kind: type[Tally], wanted: Rows, *more: ColumnElement[bool]
    ) -> Iterator[tuple[Key, Tally]]:
        """Iterate over the rows that are wanted, those of a project after one another."""
        names = [column.name for column in table.columns]
        rows = connection.execute(self._query(table, wanted).where(*more))
        # Plain dictionaries: SQLAlchemy's mappings take longer to be asked for each column.
        yield from tallies(table, kind, (dict(zip(names, row, strict=True)) for row in rows))

    def _query(self, table: Table, wanted: Rows) -> Select[Any]:
        query = select(table).where(table.c.namespace == self._namespace, *wanted.conditions(table))
        if wanted.is_each:
            query = query.order_by(table.c.project_id).execution_options(yield_per=_PAGE)
        return query


def _counted(recorded: RecordedEvent) -> Counted | None:
    """Return what is counted of an event, which is little whatever its payload; None: the archive will reject it."""
    try:
        row = event_row("", recorded, is_read=True)
    except Unstorable:
        return None
    return {name: row[name] for name in _COUNTED}


def _by(found: Mapping[Key, Tally], *parts: int) -> dict[Any, Tally]:
    """Add up what has the same parts of its key; one part is a key by itself, several are a tuple."""
    groups: dict[Any, Tally] = {}
    of = itemgetter(*parts)
    for key, tally in found.items():
        name = of(key)
        if name not in groups:
            groups[name] = type(tally)()
        groups[name].merge(tally)
    return groups


def _together(tallies: Iterable[Tally], total: Tally) -> Tally:
    """Add everything to a total, and return it."""
    for tally in tallies:
        total.merge(tally)
    return total


def _rank(order: Order, cost_micros: int, events: int, last: datetime | None, name: str) -> Place:
    """Return what projects are sorted by."""
    if order == "cost":
        return -cost_micros, -events, name
    return -microseconds(last) if last else 0, -events, name


def _moment(start_us: int) -> datetime:
    return _EPOCH + min(start_us, _LAST_START_US) * _MICROSECOND
