"""The newest events, read once for all who follow them. A follower is a cursor and nothing else: see docs/web.md.

Invariant: `ring` holds every event after `floor` up to `last`, in order. So a follower whose cursor is at or after
the floor finds the next events in it, and one whose cursor is before it reads them from the store.

Memory is bounded by bytes, whatever the size of events: `MOST_BYTES` in the ring, `CHUNK_BYTES` and one event for each
follower, and one page for each of the reads that may be under way at once.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from pydantic_core import from_json, to_json

from console.printing import event_object
from console.web.reading import Shared
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
PAGE_BYTES = 4_000_000
CHUNK_BYTES = 250_000
# Followers that read from the store at the same time; the others wait for them, so that questions find threads.
BEHIND = 2

log = logging.getLogger("eventbus.web")


class Item:
    """An event as every follower gets it: its JSON, made once, and what else a filter asks of it.

    What may be large, payload and metadata, is in the JSON alone: as objects it would take many times the bytes.
    """

    __slots__ = ("_head", "json", "position")

    def __init__(self, recorded: RecordedEvent) -> None:
        self.position = recorded.position
        self.json = to_json(event_object(recorded))
        self._head = recorded.event.model_copy(update={"payload": {}, "metadata": {}})

    def matches(self, wanted: EventFilter) -> bool:
        """Tell whether a filter wants it."""
        if not wanted.payload and not wanted.metadata:
            return wanted.matches(self._head)
        found = from_json(self.json)
        return wanted.matches(self._head.model_copy(update={name: found[name] for name in ("payload", "metadata")}))


class Stretch(NamedTuple):
    """Events that follow a cursor.

    Attributes:
        last: the position up to which this is all. items: those that match.
        complete: whether nothing followed when it was read.
    """

    last: int
    items: list[Item]
    complete: bool


class Feed:
    """History's end, for any number of followers on one event loop.

    Args:
        replay: returns history; called on the thread that a read runs on.
        clock: returns the last position given.
        vital: runs what blocks, whatever else waits: the feed's own reads.
        ask: runs what blocks when it is its turn: the reads of followers that are behind.
    """

    def __init__(
        self, replay: Callable[[], Replay], clock: Callable[[], int], vital: Read[Any], ask: Read[Any]
    ) -> None:
        self._replay = replay
        self._vital = vital
        self._ask = ask
        self._now: Shared[int] = Shared(lambda: vital(clock))
        self._ring: list[Item] = []
        self._size_bytes = 0
        self._floor = self._last = self._told = -1
        self._moved = asyncio.Event()
        self._closed = asyncio.Event()
        self._behind = asyncio.Semaphore(BEHIND)
        self._followers = 0
        self._task: asyncio.Task[None] | None = None

    async def now(self) -> int:
        """Return the last position given: where who has no cursor begins."""
        self._told = await self._now.get()
        return self._told

    async def follow(self, after: int, wanted: EventFilter) -> AsyncIterator[tuple[int, list[Item]]]:
        """Iterate over what follows a position, for ever: (cursor, events that match up to there).

        Without events it is a heartbeat that tells how far the cursor has come, `HEARTBEAT_S` after what came last,
        whatever goes on that does not match. It ends when the feed is closed. While a server cannot be reached it
        waits. The events of one step have `CHUNK_BYTES` together, or are one.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + HEARTBEAT_S
        with self._following(after):
            await asyncio.sleep(0)  # the feed begins where this one does, if that is now: he needs no question
            while not self._closed.is_set():
                if after < self._floor or self._floor < 0:
                    after, items = await self._from_store(after, wanted)
                else:
                    after, items = self._from_ring(after, wanted)
                    await asyncio.sleep(0)  # who looks through much that does not match leaves the others their turn
                if not items and after >= self._last:
                    await self._moves(after, due)
                if items or loop.time() >= due:
                    yield after, items
                    due = loop.time() + HEARTBEAT_S

    def close(self) -> None:
        """End every follower's iteration, at once."""
        self._closed.set()
        self._tell()

    def _from_ring(self, after: int, wanted: EventFilter) -> tuple[int, list[Item]]:
        """Return a follower's next step from the ring; without an event after its cursor, the feed's own place."""
        start = bisect_right(self._ring, after, key=_position)
        if start == len(self._ring):
            return max(after, self._last), []
        last, items = _fitting(self._ring[start : start + PAGE], CHUNK_BYTES)
        return last, [item for item in items if item.matches(wanted)]

    async def _from_store(self, after: int, wanted: EventFilter) -> tuple[int, list[Item]]:
        """Read the next step for a follower that is behind the ring, or that has no ring yet."""
        try:
            async with self._behind:
                if self._closed.is_set():
                    return after, []
                found: Stretch = await self._ask(partial(self._read, wanted, after, CHUNK_BYTES))
        except EventBusError as error:
            log.debug("A follower waits: %s", error)  # there may be hundreds; `_run` tells of outages
            await asyncio.sleep(OUTAGE_S)
            return after, []
        return found.last, found.items

    def _read(self, wanted: EventFilter, after: int, most_bytes: int) -> Stretch:
        """Read a stretch of history; blocks. The end of history may come in larger pages, and is cut."""
        page: Page = self._replay().page(wanted, after, PAGE, size_bytes=most_bytes)
        items: list[Item] = []
        size_bytes = 0
        for recorded in page.events:
            item = Item(recorded)
            size_bytes += len(item.json)
            if items and size_bytes > most_bytes:
                return Stretch(items[-1].position, items, False)
            items.append(item)
        return Stretch(page.last, items, page.complete)

    async def _moves(self, after: int, due: float) -> None:
        """Wait until something is after a position, the feed is closed, or the loop's clock says that it is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                while self._last <= after and not self._closed.is_set():
                    await self._moved.wait()

    @contextmanager
    def _following(self, after: int) -> Iterator[None]:
        self._followers += 1
        if self._task is None:
            begin = after if after == self._told else -1
            self._task = asyncio.create_task(self._run(begin), name="eventbus-feed")
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers and self._task is not None:
                self._task.cancel()
                self._task = None
                self._forget()

    async def _run(self, begin: int) -> None:
        """Read history's end while somebody follows.

        Args:
            begin: where, if that has been told to be its end; -1 asks.
        """
        waits = False
        while not self._closed.is_set():
            try:
                if self._floor < 0:
                    self._floor = self._last = begin if begin >= 0 else await self.now()
                    self._tell()  # who has read less by now waits for what lies between
                found: Stretch = await self._vital(partial(self._read, EventFilter(), self._last, PAGE_BYTES))
            except Exception as error:  # whatever it is: without this task nobody would see anything any more
                if not waits:
                    log.warning("The live feed waits: %s", error, exc_info=not isinstance(error, EventBusError))
                waits = True
                await asyncio.sleep(OUTAGE_S)
                continue
            waits = False
            self._add(found)
            if found.complete:
                await asyncio.sleep(POLL_S)

    def _add(self, found: Stretch) -> None:
        self._ring += found.items
        self._size_bytes += sum(len(item.json) for item in found.items)
        self._cut()
        if found.last > self._last:
            self._last = found.last
            self._tell()

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
            self._floor = self._ring[gone - 1].position
            del self._ring[:gone]
            self._size_bytes = size

    def _forget(self) -> None:
        self._ring.clear()
        self._size_bytes = 0
        self._floor = self._last = self._told = -1


def _fitting(found: list[Item], most_bytes: int) -> tuple[int, list[Item]]:
    """Return the first of these events that fit together, one at least, and the position of the last of them."""
    size_bytes = 0
    for number, item in enumerate(found):
        size_bytes += len(item.json)
        if number and size_bytes > most_bytes:
            return found[number - 1].position, found[:number]
    return found[-1].position, found


def _position(item: Item) -> int:
    return item.position
