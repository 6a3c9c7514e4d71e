"""How the bus stands, sampled once for all who watch: numbers now, numbers lately, and what needs attention.

Totals are counted by the store, so they survive every restart; a rate is the difference of two samples.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from console.standing import as_object
from console.web.live.attention import attention
from console.web.live.points import KEPT, POINT, Point, busiest, drawn, lag
from events.errors import EventBusError
from events.inspection import Backlog, Inspection
from events.roster import Worker
from events.standing import Standing, standings

if TYPE_CHECKING:
    from events.backend import Backend

WATCHED_S = 2.0
UNWATCHED_S = 10.0
# Samples may take so much of the time, however many ask: where they take long there are fewer of them, one in
# `UNWATCHED_S` if that is more. They never take more than half of it.
SHARE = 0.05

log = logging.getLogger("eventbus.web")


@dataclass(frozen=True, slots=True)
class Sample:
    """The bus at one moment.

    Attributes:
        at: when. published: events of all time. settled: deliveries that have ended, as far as archived. failures:
            attempts that failed, likewise. spent, spent_today: costs by currency, of all time and of this UTC day.
        subscribers, workers, backlog: as `events` reads them. letters: open dead letters by subscriber.
    """

    at: datetime
    published: int
    settled: int
    failures: int
    spent: dict[str, float]
    spent_today: dict[str, float]
    subscribers: tuple[Standing, ...]
    workers: tuple[Worker, ...]
    backlog: Backlog

    @property
    def point(self) -> Point:
        """What charts keep of it."""
        queues = [one.queue for one in self.subscribers]
        totals = [
            round(self.at.timestamp(), 3), self.published, self.settled, self.failures,
            sum(map(lag, queues)), sum(queue.running for queue in queues), sum(queue.dead for queue in queues),
            sum(worker.is_alive for worker in self.workers),
            round(max((queue.oldest_s or 0.0 for queue in queues), default=0.0), 1),
        ]  # fmt: skip
        return Point(totals, busiest(queues))


def take(backend: Backend) -> Sample:
    """Look at the bus; blocks.

    Raises:
        EventBusError: a server cannot be reached.
    """
    now = datetime.now(UTC)
    statistics, inspection = backend.blackboard.statistics, Inspection(backend.namespace)
    total = statistics.project().total
    today = statistics.series(None, "day", now.replace(hour=0, minute=0, second=0, microsecond=0))
    ended = total.deliveries
    return Sample(
        at=now,
        published=total.count,
        settled=ended.done + ended.dead + ended.discarded + ended.dropped,
        failures=ended.failures,
        spent=total.cost_by_currency,
        spent_today=today[-1].cost_by_currency if today and today[-1].start.date() == now.date() else {},
        subscribers=tuple(standings(backend.namespace)),
        workers=tuple(inspection.workers()),
        backlog=inspection.backlog(),
    )


class Look:
    """What came of looking at the bus once; how it is shown is made once, for all who are shown it.

    Args:
        sample: None before the first. points: those of the last minutes, the newest last.
        trouble: why the sample is not of now, a sentence; empty when it is.
    """

    def __init__(self, sample: Sample | None, points: tuple[Point, ...], trouble: str) -> None:
        self.sample = sample
        self._points = points
        self._trouble = trouble

    @cached_property
    def whole(self) -> dict[str, Any]:
        """What the overview shows, as JSON shows it, with all points: to be read, not changed."""
        return self._shown | drawn(self._points)

    @cached_property
    def whole_json(self) -> bytes:
        """The same, as a stream begins."""
        return to_json(self.whole)

    @cached_property
    def step_json(self) -> bytes:
        """The same with the newest point alone, as a stream goes on."""
        return to_json(self._shown | drawn(self._points[-1:]))

    @cached_property
    def _shown(self) -> dict[str, Any]:
        """All but the points; without a sample, only that there is trouble."""
        sample = self.sample
        if sample is None:
            return {"at": datetime.now(UTC), "trouble": self._trouble, "point": POINT, "attention": []}
        alive = [worker for worker in sample.workers if worker.is_alive]
        return {
            "at": sample.at,
            "trouble": self._trouble,
            "published": sample.published,
            "settled": sample.settled,
            "failures": sample.failures,
            "spent": sample.spent,
            "spent_today": sample.spent_today,
            "backlog": sample.backlog,
            "subscribers": list(map(as_object, sample.subscribers)),
            "workers_alive": len(alive),
            "workers_running": sum(worker.said.running for worker in alive),
            "attention": attention(sample.subscribers, sample.workers, sample.backlog),
            "point": POINT,
        }


class Pulse:
    """The last samples of one bus, on one event loop.

    Args:
        sample: takes one; blocks, and runs on the thread that `read` runs things on.
    """

    def __init__(self, sample: Callable[[], Sample], read: Callable[[Callable[[], Sample]], Awaitable[Sample]]) -> None:
        self._sample = sample
        self._read = read
        self._points: deque[Point] = deque(maxlen=KEPT)
        self._last = Look(None, (), "")
        self._failures = 0
        self._watchers = 0
        self._looked_at = self._rested_at = float("-inf")
        self._came = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closed = False

    async def run(self) -> None:
        """Sample until cancelled; whatever fails is told, and tried again."""
        loop = asyncio.get_running_loop()
        while True:
            rest_s = await self._look()
            self._rested_at = loop.time() + rest_s
            self._hurry.clear()
            await asyncio.sleep(rest_s)
            if not self._watchers:
                with suppress(TimeoutError):
                    async with asyncio.timeout(UNWATCHED_S - rest_s):
                        await self._hurry.wait()

    @property
    def last(self) -> Sample | None:
        """The last sample; None before the first."""
        return self._last.sample

    async def look(self) -> Look:
        """Return how the bus stands: at most `WATCHED_S` ago, or as lately as samples may be taken.

        All who ask share one sample: however many do, no more are taken.
        """
        now = asyncio.get_running_loop().time()
        if now - self._looked_at > WATCHED_S and now >= self._rested_at:
            await self._next()
        return self._last

    async def watch(self) -> AsyncIterator[bytes]:
        """Iterate over what the overview shows, as JSON, at once and then as it changes: the first with all points,
        others with their own. It ends when the pulse is closed.
        """
        self._watchers += 1
        try:
            yield (await self.look()).whole_json
            while not self._closed:
                await self._next()
                yield self._last.step_json
        finally:
            self._watchers -= 1

    def close(self) -> None:
        """End every watcher's iteration, at once."""
        self._closed = True
        self._tell()

    async def _look(self) -> float:
        """Take a sample; return the seconds for which no other is to be taken.

        After a failure, of a server or a bug's, that is the longer the more there were in a row.
        """
        loop = asyncio.get_running_loop()
        started, trouble = loop.time(), ""
        sample = self._last.sample
        try:
            sample = await self._read(self._sample)
            self._points.append(sample.point)
            self._failures = 0
        except Exception as error:  # whatever it is: without this loop nobody would see anything any more
            is_ours = isinstance(error, EventBusError)
            trouble = str(error) if is_ours else "The bus cannot be looked at; the web process's log says why."
            if not self._failures:
                log.warning("The overview waits: %s", error, exc_info=not is_ours)
            self._failures += 1
        self._last = Look(sample, tuple(self._points), trouble)
        self._looked_at = loop.time()
        self._tell()
        if self._failures:
            return min(WATCHED_S * 2.0 ** min(self._failures - 1, 10), UNWATCHED_S)
        took_s = self._looked_at - started
        return max(WATCHED_S, took_s, min(took_s / SHARE, UNWATCHED_S))

    def _tell(self) -> None:
        self._came.set()
        self._came = asyncio.Event()

    async def _next(self) -> None:
        """Wait for the next sample, and have it taken as soon as one may be."""
        came = self._came
        self._hurry.set()
        if not self._closed:
            await came.wait()
