"""What a bus answers: why an event happened, and history again. Reading changes nothing.

Composition: the half of `events.bus.EventBus` that asks the store, which joins what is archived with what
only Redis has.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from events.backend import Backend
from events.event import Event
from events.records import RecordedEvent
from store.blackboard import Blackboard
from store.filter import event_filter
from store.paths import Given
from store.persistence import EventPersistence
from store.tree import CausationTree

T = TypeVar("T")


class Asking:
    """Answers questions about history.

    Attributes:
        backend: the servers that are asked.
    """

    backend: Backend

    @property
    def blackboard(self) -> Blackboard:
        """The projects' shared state, and the store; closing the bus closes it."""
        return self.backend.blackboard

    async def payload_of(self, event: Event) -> dict[str, Any]:
        """Return an event's payload, from the blackboard if `publish_large` put it there.

        Raises:
            ValueNotFound: it was pruned, redacted or deleted.
            StoreUnavailable, NotMigrated.
        """
        return event.payload or await self._read(lambda: self.backend.blackboard.payload_of(event))

    def get_causation_chain(self, event_id: str) -> list[Event]:
        """Return why an event happened: the events from its root to itself, oldest first.

        Raises:
            EventNotFound: no event has that id.
        """
        return [recorded.event for recorded in self.backend.blackboard.causation.chain(event_id)]

    async def get_causation_children(self, event_id: str) -> list[Event]:
        """Return the events that an event caused directly, in history order; empty when there are none.

        Raises:
            EventNotFound: no event has that id.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        found = await self._read(lambda: self.backend.blackboard.causation.children(event_id))
        return [recorded.event for recorded in found]

    async def get_causation_tree(self, event_id: str) -> CausationTree:
        """Return everything that an event set off, with what it cost, how long it took, and what is unfinished.

        Raises:
            EventNotFound: no event has that id.
            EventBusError: the tree has more than 100,000 events.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        return await self._read(lambda: self.backend.blackboard.causation.tree(event_id))

    async def replay_events(
        self,
        project_id: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        event_types: Sequence[object] | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        payload: Given | None = None,
        metadata: Given | None = None,
    ) -> list[Event]:
        """Return events in history order; every filter is optional, and the times are half-open.

        Args:
            start_time, end_time: naive ones are read as UTC.
            payload, metadata: scalars by path, e.g. `{"scene.number": 3}`, as in `store.filter.EventFilter`.

        Returns:
            All that match; empty when none does. For long histories use `iter_events`.

        Raises:
            InvalidFilter: a reversed time range, or another condition that cannot be asked.
            StoreUnavailable, NotMigrated, RedisUnavailable.
        """
        wanted = event_filter(project_id, start_time, end_time, event_types, actor, correlation_id, payload, metadata)
        return await self._read(lambda: [recorded.event for recorded in self.backend.blackboard.replay.iterate(wanted)])

    async def iter_events(
        self,
        after: int = 0,
        *,
        project_id: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        event_types: Sequence[object] | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        payload: Given | None = None,
        metadata: Given | None = None,
    ) -> AsyncIterator[RecordedEvent]:
        """Iterate over history from a position, a page in memory at a time.

        Args:
            after: a position, exclusive; resume with the last event's `position`. The others are as
                those of `replay_events`.

        Yields:
            Events at their positions; an event's own attributes can be read directly.

        Raises:
            InvalidFilter, StoreUnavailable, NotMigrated, RedisUnavailable: iterate again after the last position.
        """
        board = await asyncio.to_thread(lambda: self.backend.blackboard)
        found = EventPersistence(board).iter_events(
            after,
            project_id=project_id,
            start_time=start_time,
            end_time=end_time,
            event_types=event_types,
            actor=actor,
            correlation_id=correlation_id,
            payload=payload,
            metadata=metadata,
        )
        async for recorded in found:
            yield recorded

    async def _read(self, read: Callable[[], T]) -> T:
        """Run a SQL read in the pool, with the caller's context."""
        context = contextvars.copy_context()
        pool = await asyncio.to_thread(lambda: self.backend.blackboard.pool)
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: context.run(read))
