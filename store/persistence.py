"""The store's asynchronous edge: keep events, read them, count them.

Each call runs on one of the blackboard's threads, with the caller's context variables. A cancelled
caller stops waiting; its call on the thread ends as if nobody had cancelled, whole or not at all, and
gives its connection back. Everything may be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from events.event import Event
from events.records import RecordedEvent
from events.types import EventType, TypeName
from store.blackboard import Blackboard
from store.filter import event_filter
from store.numbers import BucketStatistics, DeliveryStatistics, HandledNumbers, ProjectNumbers
from store.paths import Given
from store.statistics import Grain

T = TypeVar("T")
_PAGE = 1000


class EventPersistence:
    """Events in the store of one blackboard. Tasks and event loops may share it."""

    def __init__(self, blackboard: Blackboard) -> None:
        self._blackboard = blackboard

    async def persist_event(self, event: Event) -> str:
        """Store an event without publishing it; nobody receives it.

        An event that is stored or published already is left as it is.

        Returns:
            Its id.

        Raises:
            EventIdConflict: the id is taken by an event with another content; nothing was written.
            StoreUnavailable, NotMigrated, RedisUnavailable: it may or may not be stored; repeat the call.
        """
        return (await self.persist_events([event]))[0]

    async def persist_events(self, events: Sequence[Event]) -> list[str]:
        """Store events without publishing them, all or none; as `persist_event` does with each.

        Returns:
            Their ids, in the same order.
        """
        stored = await self._hop(lambda: self._blackboard.direct.store(list(events)))
        return [recorded.event.event_id for recorded in stored]

    async def get_events(
        self,
        project_id: str | None = None,
        event_types: Iterable[EventType | TypeName | str] | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        after: int | None = None,
        limit: int | None = None,
        payload: Given | None = None,
        metadata: Given | None = None,
    ) -> list[Event]:
        """Return the events that meet every given condition, in history order.

        Args:
            event_types: of one of these types; None or empty means any.
            start_time: at or after; a naive one is UTC. end_time: before; a naive one is UTC.
            after: a position, exclusive.
            limit: most events to return; None returns all, in memory: `Replay.iterate` does not.
            payload, metadata: scalars by path, e.g. `{"scene.number": 3}`, as in `EventFilter`.

        Raises:
            ValueError: a negative limit; an `InvalidFilter` for what `EventFilter` refuses.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"The limit must be at least 0, not {limit}.")
        wanted = event_filter(project_id, start_time, end_time, event_types, actor, correlation_id, payload, metadata)

        def read() -> list[Event]:
            found = self._blackboard.replay.iterate(wanted, after or 0, page=min(limit or _PAGE, _PAGE))
            return [recorded.event for recorded in islice(found, limit)]

        return await self._hop(read)

    async def iter_events(
        self,
        after: int = 0,
        *,
        project_id: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        event_types: Iterable[object] | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        payload: Given | None = None,
        metadata: Given | None = None,
    ) -> AsyncIterator[RecordedEvent]:
        """Iterate over history from a position, a page in memory at a time; conditions as those of `get_events`.

        Args:
            after: a position, exclusive; resume with the last event's `position`.

        Yields:
            Events at their positions, in history order.

        Raises:
            InvalidFilter, StoreUnavailable, NotMigrated, RedisUnavailable: iterate again after the last position.

        Guarantee: no gap and no repeat while archiving goes on; no connection is held between pages.
        """
        wanted = event_filter(project_id, start_time, end_time, event_types, actor, correlation_id, payload, metadata)
        complete = False
        while not complete:
            start = after
            page = await self._hop(lambda start=start: self._blackboard.replay.page(wanted, start, _PAGE))  # type: ignore[misc]
            for recorded in page.events:
                yield recorded
            after, complete = page.last, page.complete

    async def get_event_statistics(self, project_id: str | None = None) -> dict[str, Any]:
        """Return the numbers of a project, or of all projects; zeros and None when it has no events.

        Returns:
            `{"project_id", "total_events", "total_cost", "average_cost", "cost_by_currency",
            "average_latency_ms", "p50_latency_ms", "p95_latency_ms", "p99_latency_ms", "first_event",
            "last_event", "deliveries", "by_type": {TYPE: the same without project_id and these two}, "by_actor":
            {ACTOR: likewise}}`. Times are aware datetimes; averages and percentiles are over the events that have
            the measure, and None when none has. A percentile is less than 1/128 off, the rest exact.
            "deliveries" is what came of those events, as far as archived: `{"waiting", "done", "dead",
            "discarded", "dropped", "attempts", "failures", "elapsed_average_ms", "elapsed_p50_ms",
            "elapsed_p95_ms", "elapsed_p99_ms"}`.

        Raises:
            InvalidFilter: the project's id holds U+0000 or a lone surrogate, which no event holds.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        found = await self._hop(lambda: self._blackboard.statistics.project(project_id))
        by_type = {one.type: _numbers(one) for one in found.types}
        by_actor = {one.actor: _numbers(one) for one in found.actors}
        return {"project_id": project_id, **_numbers(found.total), "by_type": by_type, "by_actor": by_actor}

    async def get_project_statistics(self, limit: int = 20) -> list[ProjectNumbers]:
        """Return the numbers of the projects that cost most; as `Statistics.projects`.

        Raises:
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        return await self._hop(lambda: self._blackboard.statistics.projects(limit))

    async def get_event_series(
        self,
        project_id: str | None = None,
        grain: Grain = "day",
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> list[BucketStatistics]:
        """Return the numbers of a project, or of all projects, by day or hour; as `Statistics.series`.

        Raises:
            InvalidFilter: a reversed time range, or another grain.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        return await self._hop(lambda: self._blackboard.statistics.series(project_id, grain, start_time, end_time))

    async def get_delivery_statistics(self, project_id: str | None = None) -> list[DeliveryStatistics]:
        """Return what the deliveries of a project, or of all, came to by subscriber; as `Statistics.deliveries`.

        Raises:
            StoreUnavailable, NotMigrated.
        """
        return await self._hop(lambda: self._blackboard.statistics.deliveries(project_id))

    async def _hop(self, call: Callable[[], T]) -> T:
        return await self._blackboard.run(call)


def _numbers(one: HandledNumbers) -> dict[str, Any]:
    return {
        "total_events": one.count,
        "total_cost": one.cost_total,
        "average_cost": one.cost_average,
        "cost_by_currency": one.cost_by_currency,
        "average_latency_ms": one.latency_average_ms,
        "p50_latency_ms": one.latency_p50_ms,
        "p95_latency_ms": one.latency_p95_ms,
        "p99_latency_ms": one.latency_p99_ms,
        "first_event": one.first_time,
        "last_event": one.last_time,
        "deliveries": asdict(one.deliveries),
    }
