"""The newest events, read once for all who follow them. A follower is a cursor and nothing else: see docs/web.md.

Invariant: `ring` holds every event after `floor` up to `last`, in order. So a follower whose cursor is at or after
the floor finds the next events in it, and one whose cursor is before it reads them from the store.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from pydantic_core import to_json

from console.printing import event_object
from events.errors import EventBusError
from events.records import RecordedEvent
from store.filter import EventFilter
from store.replay import Page, Replay

T = TypeVar("T")
Read = Callable[[Callable[[], T]], Awaitable[T]]

POLL_S = 0.2
OUTAGE_S = 1.0
HEARTBEAT_S = 15.0
PAGE = 500
MOST_EVENTS = 5_000
MOST_BYTES = 16_000_000

log = logging.getLogger("eventbus.web")


class Item:
    """An event as every follower gets it; its JSON is made once."""

    __slots__ = ("json", "recorded")

    def __init__(self, recorded: RecordedEvent) -> None:
        self.recorded = recorded
        self.json = to_json(event_object(recorded))


class Feed:
    """History's end, for any number of followers on one event loop.

    Args:
        replay: returns history; called on the thread that `read` runs things on.
        clock: returns the last position given.
        read: runs what blocks.
    """

    def __init__(self, replay: Callable[[], Replay], clock: Callable[[], int], read: Read[Any]) -> None:
        self._replay = replay
        self._clock = clock
        self._read = read
        self._ring: list[Item] = []
        self._size_bytes = 0
        self._floor = self._last = -1
        self._moved = asyncio.Event()
        self._closed = asyncio.Event()
        self._followers = 0
        self._task: asyncio.Task[None] | None = None

    async def now(self) -> int:
        """Return the last position given: where who has no cursor begins."""
        return int(await self._read(self._clock))

    async def follow(self, after: int, wanted: EventFilter) -> AsyncIterator[tuple[int, list[Item]]]:
        """Iterate over what follows a position, for ever: (cursor, events that match up to there).

        Without events it is a heartbeat that tells how far the cursor has come, `HEARTBEAT_S` after what came last,
        whatever goes on that does not match. It ends when the feed is closed. While a server cannot be reached it
        waits.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + HEARTBEAT_S
        with self._following():
            while not self._closed.is_set():
                if after < self._floor or self._floor < 0:
                    after, items = await self._from_store(after, wanted)
                else:
                    found = self._ring[bisect_right(self._ring, after, key=_position) :][:PAGE]
                    items = [item for item in found if wanted.matches(item.recorded.event)]
                    after = found[-1].recorded.position if found else max(after, self._last)
                if not items and after >= self._last:
                    await self._moves(after, due)
                if items or loop.time() >= due:
                    yield after, items
                    due = loop.time() + HEARTBEAT_S

    def close(self) -> None:
        """End every follower's iteration, at once."""
        self._closed.set()
        self._tell()

    async def _from_store(self, after: int, wanted: EventFilter) -> tuple[int, list[Item]]:
        """Read the next page for a follower that is behind the ring, or that has no ring yet."""
        try:
            page: Page = await self._read(lambda: self._replay().page(wanted, after, PAGE))
        except EventBusError as error:
            log.warning("A follower waits: %s", error)
            await asyncio.sleep(OUTAGE_S)
            return after, []
        return page.last, [Item(recorded) for recorded in page.events]

    async def _moves(self, after: int, due: float) -> None:
        """Wait until something is after a position, the feed is closed, or the loop's clock says that it is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                while self._last <= after and not self._closed.is_set():
                    await self._moved.wait()

    @contextmanager
    def _following(self) -> Iterator[None]:
        self._followers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="eventbus-feed")
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers and self._task is not None:
                self._task.cancel()
                self._task = None
                self._forget()

    async def _run(self) -> None:
        """Read history's end while somebody follows."""
        waits = False
        while not self._closed.is_set():
            try:
                if self._floor < 0:
                    self._floor = self._last = await self.now()
                    self._tell()  # who has read less by now waits for what lies between
                page: Page = await self._read(lambda: self._replay().page(EventFilter(), self._last, PAGE))
            except Exception as error:  # whatever it is: without this task nobody would see anything any more
                if not waits:
                    log.warning("The live feed waits: %s", error, exc_info=not isinstance(error, EventBusError))
                waits = True
                await asyncio.sleep(OUTAGE_S)
                continue
            waits = False
            self._add(page)
            if page.complete:
                await asyncio.sleep(POLL_S)

    def _add(self, page: Page) -> None:
        for recorded in page.events:
            item = Item(recorded)
            self._ring.append(item)
            self._size_bytes += len(item.json)
        if page.last > self._last:
            self._last = page.last
            self._tell()
        self._cut()

    def _tell(self) -> None:
        """Wake all who wait; who waits from now on waits for the next time."""
        self._moved.set()
        self._moved = asyncio.Event()

    def _cut(self) -> None:
        """Let go of the oldest events that are too many, or too large together."""
        gone = max(0, len(self._ring) - MOST_EVENTS)
        size = self._size_bytes - sum(len(item.json) for item in self._ring[:gone])
        while size > MOST_BYTES and gone < len(self._ring):
            size -= len(self._ring[gone].json)
            gone += 1
        if gone:
            self._floor = self._ring[gone - 1].recorded.position
            del self._ring[:gone]
            self._size_bytes = size

    def _forget(self) -> None:
        self._ring.clear()
        self._size_bytes = 0
        self._floor = self._last = -1


def _position(item: Item) -> int:
    return item.recorded.position
