"""What a bus publishes with: now or later, one or many, from a loop or without one, on disk if that is asked for.

Composition: the half of `events.bus.EventBus` that hands events to its senders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import datetime, timedelta

from events.asking import Asking
from events.due import read_due
from events.encoding import encode
from events.event import Event
from events.loop_sender import LoopSenders
from events.publisher import Answer
from events.scheduled import ScheduledEvents
from events.schemas import Schemas
from events.sender import Sender
from events.settings import Settings
from events.submitting import acknowledged, noted
from events.telemetry import Tracing

Delay = float | timedelta | None


class Publishing(Asking):
    """Publishes events.

    Attributes:
        settings: where, and how large events may be.
        schemas: what payloads are held against.
    """

    settings: Settings
    schemas: Schemas
    _sender: Sender
    _here: LoopSenders
    _tracing: Tracing | None

    async def publish(
        self, event: Event, *, delay: Delay = None, at: datetime | None = None, durable: bool = False
    ) -> str:
        """Publish an event; when this returns it is in history and in every subscriber's queue.

        With `delay` or `at` it is scheduled: when this returns it is held in Redis, and any worker or
        archiver publishes it when it is due. Scheduled twice, it keeps the earlier moment.

        Args:
            delay: seconds or a timedelta, up to ten years, by the server's clock.
            at: a moment, up to ten years from now; naive it is UTC, past it is now.
            durable: return when it is on the server's disk too, so that not even its crash loses it. With
                `appendfsync everysec` that takes up to a second or two, shared by all who wait at the time.

        Returns:
            The event's id.

        Raises:
            EventIdConflict, TooManyRoutes, EventTooLarge, InvalidEvent, InvalidSchedule: nothing was published.
            NotDurable: the server cannot wait for its disk (nothing was published), or has not in time.
            HistoryReset: Redis was emptied and no worker has declared the subscribers again.
            RedisUnavailable: it may or may not have arrived; publishing again is safe.
        """
        if durable:
            return acknowledged((await self.publish_many([event], delay=delay, at=at, durable=True))[0])
        return acknowledged((await self._submit_here([event], delay, at))[0])

    async def publish_large(
        self, event: Event, *, delay: Delay = None, at: datetime | None = None, durable: bool = False
    ) -> str:
        """Publish an event of any size: a payload that is too large goes to the blackboard first.

        Handlers read it with `payload_of(event)`. Publishing the same event again is safe, as `publish` is.

        Raises:
            InvalidValue, InvalidEvent: the blackboard cannot take it; nothing was published.
            StoreUnavailable, NotMigrated, and what `publish` raises: publishing again is safe.
        """
        event = self.schemas.checked(event)
        if len(encode(event)) > self.settings.max_event_bytes:
            event = await self._read(lambda large=event: self.blackboard.offload(large))  # type: ignore[misc]
        return await self.publish(event, delay=delay, at=at, durable=durable)

    async def publish_many(
        self, events: Iterable[Event], *, delay: Delay = None, at: datetime | None = None, durable: bool = False
    ) -> list[Answer]:
        """Publish events in their order, or schedule them all for one moment.

        Returns:
            Per event its `Receipt` (`Scheduled` of one that is), or the error for which it was refused.

        Raises:
            NotDurable: as `publish` does.
        """
        if not durable:
            return await self._submit_here(list(events), delay, at)
        barrier = await asyncio.to_thread(lambda: self.backend.barrier)
        loop = asyncio.get_running_loop()
        run_id = await loop.run_in_executor(barrier.pool, barrier.check)
        answers = await self._submit_here(list(events), delay, at)
        await loop.run_in_executor(barrier.pool, barrier.wait, run_id)
        return answers

    def publish_sync(
        self, event: Event, *, delay: Delay = None, at: datetime | None = None, durable: bool = False
    ) -> str:
        """Publish from code without an event loop; as `publish` does."""
        return acknowledged(self.publish_many_sync([event], delay=delay, at=at, durable=durable)[0])

    def publish_many_sync(
        self, events: Iterable[Event], *, delay: Delay = None, at: datetime | None = None, durable: bool = False
    ) -> list[Answer]:
        """Publish events from code without an event loop; as `publish_many` does."""
        if not durable:
            return self._submit(list(events), delay, at).result()
        barrier = self.backend.barrier
        run_id = barrier.check()
        answers = self._submit(list(events), delay, at).result()
        barrier.wait(run_id)
        return answers

    def cancel(self, event_id: str) -> bool:
        """Take a scheduled event back; a plain call, one round trip.

        Returns:
            False when none of that id is scheduled: unknown, or published already.
        """
        return ScheduledEvents(self.backend.namespace, self.settings.max_routes).cancel([event_id])[0]

    # inside

    def _submit(self, events: list[Event], delay: Delay, at: datetime | None) -> Future[list[Answer]]:
        origin, due = noted(events), read_due(delay, at)
        self._here.give_way()
        if self._tracing is None or not events:
            return self._sender.submit(events, origin, due)
        return self._tracing.publishing(events, lambda carrying: self._sender.submit(carrying, origin, due))

    def _submit_here(self, events: list[Event], delay: Delay, at: datetime | None) -> asyncio.Future[list[Answer]]:
        origin, due = noted(events), read_due(delay, at)
        sender = self._here.sender()
        if self._tracing is None or not events:
            return sender.submit(events, origin, due)
        return self._tracing.publishing(events, lambda carrying: sender.submit(carrying, origin, due))
