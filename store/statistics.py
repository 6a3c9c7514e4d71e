"""Numbers about events and deliveries: per type, actor, subscriber, day, hour; of a project or of all.

Read from two small tables that are kept in the transactions that store events and outcomes, so an answer
costs a few rows whatever the history; docs/statistics.md says what they hold. Events that are not archived
yet are added from Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Engine, Table, select

from events.errors import InvalidFilter
from events.ports import HistoryTail
from events.records import RecordedEvent
from store.counting import ALL_PROJECTS, TOTAL, WIDTHS_US, EventCounts, Key, Tally, key_names, start_of
from store.engine import reading
from store.filter import EventFilter, check_text
from store.rows import Unstorable, event_row
from store.seam import Seam
from store.tables import delivery_statistics, event_statistics, microseconds
from store.tally import DeliveryTally, EventTally

ALL_TYPES = "*"
Grain = Literal["day", "hour"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_START_US = 253_402_300_799_999_999  # no datetime is later


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNumbers:
    """What some events amount to.

    Attributes:
        count: how many events.
        cost_total: the sum of their costs, whatever the currencies; 0 when none has a cost.
        cost_average: over the events that have a cost; None when none has.
        cost_by_currency: the sum of the costs in each currency, `USD` where an event names none.
        latency_average_ms: exact, over the events that have a latency; None when none has.
        latency_p50_ms, latency_p95_ms, latency_p99_ms: nearest-rank percentiles of the same, less than 1/128
            (0.8 percent) off; None when none has.
        first_time, last_time: the earliest and latest timestamp; None when there are no events.
    """

    count: int = 0
    cost_total: float = 0.0
    cost_average: float | None = None
    cost_by_currency: dict[str, float] = field(default_factory=dict)
    latency_average_ms: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeStatistics(EventNumbers):
    """What one event type amounts to; `type` is its name, `*` for all types together."""

    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorStatistics(EventNumbers):
    """What the events of one actor amount to."""

    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketStatistics(EventNumbers):
    """What the events of one day or hour amount to: those with a timestamp from `start` (UTC) to its end."""

    start: datetime


@dataclass(frozen=True, slots=True)
class ProjectStatistics:
    """What a project amounts to.

    Attributes:
        project_id: None for all projects of the namespace.
        types: one for each type that occurs, by name.
        total: all of them together.
        actors: one for each actor that occurs, by name.
    """

    project_id: str | None
    types: tuple[TypeStatistics, ...]
    total: TypeStatistics
    actors: tuple[ActorStatistics, ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryStatistics:
    """What deliveries to one subscriber came to, as far as archived.

    Attributes:
        waiting, done, dead, discarded, dropped: how many are in each state.
        attempts: the sum of the attempts that they took.
        failures: attempts that ended `retried`, `dead` or `lost`.
        elapsed_average_ms: how long handlers ran; exact; None when no outcome says it.
        elapsed_p50_ms, elapsed_p95_ms, elapsed_p99_ms: nearest-rank percentiles of the same, less than 1/128 off.
        start: of the day or hour in which their events were published; None for all of them.
    """

    subscriber: str
    waiting: int = 0
    done: int = 0
    dead: int = 0
    discarded: int = 0
    dropped: int = 0
    attempts: int = 0
    failures: int = 0
    elapsed_average_ms: float | None = None
    elapsed_p50_ms: float | None = None
    elapsed_p95_ms: float | None = None
    elapsed_p99_ms: float | None = None
    start: datetime | None = None


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

        Guarantee: exact, percentiles within 1/128, over every event published before the call, archived or not.
        """
        found = self._events(project_id, TOTAL)
        by_type = _grouped(found, lambda key: key[3])
        by_actor = _grouped(found, lambda key: key[4])
        total = _grouped(found, lambda key: ALL_TYPES).get(ALL_TYPES, EventTally())
        return ProjectStatistics(
            project_id,
            tuple(TypeStatistics(type=name, **_numbers(by_type[name])) for name in sorted(by_type)),
            TypeStatistics(type=ALL_TYPES, **_numbers(total)),
            tuple(ActorStatistics(actor=name, **_numbers(by_actor[name])) for name in sorted(by_actor)),
        )

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
        buckets = _Range(grain, start, end)
        by_start = _grouped(self._events(project_id, grain, buckets), lambda key: key[2])
        return [BucketStatistics(start=_moment(at), **_numbers(by_start[at])) for at in sorted(by_start)]

    def deliveries(self, project_id: str | None = None) -> list[DeliveryStatistics]:
        """Return what deliveries of one project, or of all, came to: by subscriber, as far as they are archived.

        A delivery whose event is not archived yet is counted for all projects only.

        Raises:
            InvalidFilter: as `project`.
            StoreUnavailable, NotMigrated.
        """
        found = self._deliveries(project_id, TOTAL)
        by_name = _grouped(found, lambda key: key[3])
        return [_delivery_statistics(name, by_name[name]) for name in sorted(by_name)]

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
        found = self._deliveries(project_id, grain, _Range(grain, start, end))
        by_place = _grouped(found, lambda key: key[2:])
        return [_delivery_statistics(place[1], by_place[place], _moment(place[0])) for place in sorted(by_place)]

    def _events(self, project_id: str | None, grain: str, buckets: _Range | None = None) -> dict[Key, EventTally]:
        """Return the archived sums and those of the tail, by key."""
        check_text("project_id", project_id)
        return self._seam.steadily(lambda: self._events_once(project_id, grain, buckets))

    def _events_once(self, project_id: str | None, grain: str, buckets: _Range | None) -> dict[Key, EventTally]:
        with reading(self._engine) as connection:
            archived = self._seam.archived(connection)
        unarchived = list(self._seam.events(archived))
        with reading(self._engine) as connection:
            archived = self._seam.archived(connection)  # what it passed meanwhile is in SQL now
            found = self._read(connection, event_statistics, EventTally, project_id, grain, buckets)
        of = ALL_PROJECTS if project_id is None else project_id
        for key, tally in _unarchived(unarchived, archived).items():
            if key[:2] == (of, grain) and (buckets is None or key[2] in buckets):
                found.setdefault(key, EventTally()).merge(tally)
        return found if project_id != ALL_PROJECTS else {}

    def _deliveries(
        self, project_id: str | None, grain: str, buckets: _Range | None = None
    ) -> dict[Key, DeliveryTally]:
        check_text("project_id", project_id)
        if project_id == ALL_PROJECTS:  # no project's name
            return {}
        with reading(self._engine) as connection:
            return self._read(connection, delivery_statistics, DeliveryTally, project_id, grain, buckets)

    def _read(
        self,
        connection: Connection,
        table: Table,
        kind: type[Tally],
        project_id: str | None,
        grain: str,
        buckets: _Range | None,
    ) -> dict[Key, Tally]:
        column = table.c
        of = ALL_PROJECTS if project_id is None else project_id
        conditions = [column.namespace == self._namespace, column.project_id == of, column.grain == grain]
        query = select(table).where(*conditions, *(buckets.conditions(column.start) if buckets else ()))
        names = key_names(table)
        rows = connection.execute(query).mappings()
        return {tuple(row[name] for name in names): kind.of(row) for row in rows}


class _Range:
    """Which buckets of a grain a reader wants: those that begin from `first` to before `end`, microseconds."""

    def __init__(self, grain: str, start: datetime | None, end: datetime | None) -> None:
        if grain not in WIDTHS_US or grain == TOTAL:
            raise InvalidFilter(f"The grain of a series is 'day' or 'hour', not {grain!r:.80}.")
        wanted = EventFilter(start_time=start, end_time=end)
        self.first = start_of(grain, microseconds(wanted.start_time)) if wanted.start_time else None
        self.end = microseconds(wanted.end_time) if wanted.end_time else None

    def __contains__(self, start: Any) -> bool:
        return (self.first is None or start >= self.first) and (self.end is None or start < self.end)

    def conditions(self, column: ColumnElement[int]) -> list[ColumnElement[bool]]:
        """Return the same on a column of starts."""
        found = [column >= self.first] if self.first is not None else []
        return [*found, column < self.end] if self.end is not None else found


def _unarchived(recorded: Iterable[RecordedEvent], archived: int) -> Mapping[Key, EventTally]:
    """Add up events after a position; those that the archive will reject are left out."""
    counts = EventCounts("")
    for one in recorded:
        if one.position > archived:
            try:
                counts.inserted(event_row("", one))
            except Unstorable:
                continue
    return counts.spread()


def _grouped(found: Mapping[Key, Tally], by: Callable[[Key], Any]) -> dict[Any, Tally]:
    groups: dict[Any, Tally] = {}
    for key, tally in found.items():
        groups.setdefault(by(key), type(tally)()).merge(tally)
    return groups


def _numbers(tally: EventTally) -> dict[str, Any]:
    cost = sum(tally.cost_micros.values())
    return {
        "count": tally.events,
        "cost_total": cost / 1e6,
        "cost_average": cost / 1e6 / tally.priced if tally.priced else None,
        "cost_by_currency": {currency: micros / 1e6 for currency, micros in sorted(tally.cost_micros.items())},
        "latency_average_ms": tally.latency.average_ms,
        **{f"latency_p{percent}_ms": tally.latency.percentile_ms(percent) for percent in (50, 95, 99)},
        "first_time": tally.first_time,
        "last_time": tally.last_time,
    }


def _delivery_statistics(subscriber: str, tally: DeliveryTally, start: datetime | None = None) -> DeliveryStatistics:
    p50, p95, p99 = (tally.elapsed.percentile_ms(percent) for percent in (50, 95, 99))
    return DeliveryStatistics(
        subscriber,
        **tally.states,
        attempts=tally.attempts,
        failures=tally.failures,
        elapsed_average_ms=tally.elapsed.average_ms,
        elapsed_p50_ms=p50,
        elapsed_p95_ms=p95,
        elapsed_p99_ms=p99,
        start=start,
    )


def _moment(start_us: int) -> datetime:
    return _EPOCH + min(start_us, _LAST_START_US) * _MICROSECOND
