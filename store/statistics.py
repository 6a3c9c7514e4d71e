"""Numbers about events and deliveries: per type, per project, per subscriber.

The values are here; the SQL that finds them is in `store/measures.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine, func, select

from events.ports import HistoryTail
from store import measures
from store.engine import reading
from store.measures import ALL_TYPES
from store.seam import Seam
from store.tables import deliveries


@dataclass(frozen=True, slots=True)
class TypeStatistics:
    """What one event type amounts to.

    Attributes:
        type: its name; `*` for all types together.
        count: how many events.
        cost_total: the sum of their costs, whatever the currencies; 0 when none has a cost.
        cost_average: over the events that have a cost; None when none has.
        latency_average_ms: over the events that have a latency; None when none has.
        latency_p95_ms: the nearest-rank 95th percentile of the same; None when none has.
        first_time, last_time: the earliest and latest timestamp; None when there are no events.
        cost_by_currency: the sum of the costs in each currency, `USD` where an event names none.
    """

    type: str
    count: int = 0
    cost_total: float = 0.0
    cost_average: float | None = None
    latency_average_ms: float | None = None
    latency_p95_ms: float | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None
    cost_by_currency: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProjectStatistics:
    """What a project amounts to.

    Attributes:
        project_id: None for all projects of the namespace.
        types: one for each type that occurs, by name.
        total: all of them together.
    """

    project_id: str | None
    types: tuple[TypeStatistics, ...]
    total: TypeStatistics


@dataclass(frozen=True, slots=True)
class DeliveryStatistics:
    """How many deliveries of one subscriber are in each state, as far as archived, and the attempts they took."""

    subscriber: str
    waiting: int = 0
    done: int = 0
    dead: int = 0
    discarded: int = 0
    dropped: int = 0
    attempts: int = 0


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
            StoreUnavailable, NotMigrated, RedisUnavailable.

        Guarantee: exact over every event published before the call, archived or not.
        """
        return self._seam.steadily(lambda: self._project(project_id))

    def deliveries(self) -> list[DeliveryStatistics]:
        """Return the deliveries of each subscriber by state, by name, as far as they are archived.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        table = deliveries.c
        query = (
            select(table.subscriber, table.state, func.count(), func.sum(table.attempts))
            .where(table.namespace == self._namespace)
            .group_by(table.subscriber, table.state)
        )
        found: dict[str, dict[str, int]] = {}
        with reading(self._engine) as connection:
            for subscriber, state, count, attempts in connection.execute(query):
                numbers = found.setdefault(subscriber, {"attempts": 0})
                numbers[state] = count
                numbers["attempts"] += int(attempts)
        return [DeliveryStatistics(subscriber, **found[subscriber]) for subscriber in sorted(found)]

    def _project(self, project_id: str | None) -> ProjectStatistics:
        with reading(self._engine) as connection:
            archived = self._seam.archived(connection)
        unarchived = list(self._seam.events(archived))
        with reading(self._engine) as connection:
            archived = self._seam.archived(connection)  # what it passed meanwhile is in SQL now
            tail = measures.of([recorded for recorded in unarchived if recorded.position > archived], project_id)
            found = measures.by_type(connection, self._namespace, project_id, tail)
        total = found.pop(ALL_TYPES, None)
        types = tuple(_type_statistics(name, found[name]) for name in sorted(found))
        return ProjectStatistics(project_id, types, _type_statistics(ALL_TYPES, total or measures.Sums()))


def _type_statistics(name: str, sums: measures.Sums) -> TypeStatistics:
    return TypeStatistics(
        type=name,
        count=sums.count,
        cost_total=sums.cost_micros / 1e6,
        cost_average=sums.cost_micros / 1e6 / sums.costs if sums.costs else None,
        latency_average_ms=sums.latency_us / 1e3 / sums.latencies if sums.latencies else None,
        latency_p95_ms=sums.latency_p95_us / 1e3 if sums.latency_p95_us is not None else None,
        first_time=sums.first_time,
        last_time=sums.last_time,
        cost_by_currency={currency: micros / 1e6 for currency, micros in sorted(sums.currencies.items())},
    )
