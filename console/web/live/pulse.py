"""How the bus stands, sampled once for all who watch: numbers now, numbers lately, and what needs attention.

Totals are counted by the store, so they survive every restart; a rate is the difference of two samples.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from console.standing import as_object
from console.web.live.attention import attention
from events.errors import EventBusError
from events.inspection import Backlog, Inspection
from events.roster import Worker
from events.standing import Standing, standings

if TYPE_CHECKING:
    from events.backend import Backend

WATCHED_S = 2.0
UNWATCHED_S = 10.0
# A sample may take so much of the time, not more: with thousands of subscribers there are fewer of them.
SHARE = 0.05
KEPT = 450
IDLE_S = 86_400.0

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
    def point(self) -> list[float]:
        """What a chart keeps: the numbers that `POINT` names."""
        queues = [one.queue for one in self.subscribers]
        return [
            round(self.at.timestamp(), 3), self.published, self.settled, self.failures,
            sum(queue.ready + queue.waiting + queue.delayed for queue in queues),
            sum(queue.running for queue in queues), sum(queue.dead for queue in queues),
        ]  # fmt: skip


POINT = ("at", "published", "settled", "failures", "waiting", "running", "dead")


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


def overview(sample: Sample | None, points: list[list[float]], trouble: str) -> dict[str, Any]:
    """Return what the overview shows, as JSON shows it; without a sample, only that there is trouble."""
    if sample is None:
        return {"at": datetime.now(UTC), "trouble": trouble, "points": points, "point": POINT, "attention": []}
    return {
        "at": sample.at,
        "trouble": trouble,
        "published": sample.published,
        "settled": sample.settled,
        "failures": sample.failures,
        "spent": sample.spent,
        "spent_today": sample.spent_today,
        "backlog": sample.backlog,
        "subscribers": [as_object(one, IDLE_S) for one in sample.subscribers],
        "workers_alive": sum(worker.is_alive for worker in sample.workers),
        "workers_running": sum(worker.said.running for worker in sample.workers if worker.is_alive),
        "attention": attention(sample.subscribers, sample.workers, sample.backlog),
        "point": POINT,
        "points": points,
    }


class Pulse:
    """The last samples of one bus, on one event loop.

    Args:
        sample: takes one; blocks, and runs on the thread that `read` runs things on.
    """

    def __init__(self, sample: Callable[[], Sample], read: Callable[[Callable[[], Sample]], Awaitable[Sample]]) -> None:
        self._sample = sample
        self._read = read
        self._points: deque[list[float]] = deque(maxlen=KEPT)
        self._last: Sample | None = None
        self._trouble = ""
        self._watchers = 0
        self._looked_at = float("-inf")
        self._came = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closed = False

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            await self._look()
            took_s = loop.time() - started
            pause_s = max(WATCHED_S if self._watchers else UNWATCHED_S, took_s / SHARE)
            self._hurry.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    @property
    def last(self) -> Sample | None:
        """The last sample; None before the first."""
        return self._last

    async def overview(self) -> dict[str, Any]:
        """Return what the overview shows now, at most `WATCHED_S` old, with the points of the last minutes."""
        if asyncio.get_running_loop().time() - self._looked_at > WATCHED_S:
            self._hurry.set()
            await self._next()
        return overview(self._last, list(self._points), self._trouble)

    async def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Iterate over what the overview shows, at once and then as it changes: the first with all points, others
        with their own. It ends when the pulse is closed.
        """
        self._watchers += 1
        try:
            yield await self.overview()
            self._hurry.set()
            while not self._closed:
                await self._next()
                yield overview(self._last, list(self._points)[-1:], self._trouble)
        finally:
            self._watchers -= 1

    def close(self) -> None:
        """End every watcher's iteration, at once."""
        self._closed = True
        self._tell()

    async def _look(self) -> None:
        try:
            self._last = await self._read(self._sample)
            self._points.append(self._last.point)
            self._trouble = ""
        except EventBusError as error:
            if not self._trouble:
                log.warning("The overview waits: %s", error)
            self._trouble = str(error)
        self._looked_at = asyncio.get_running_loop().time()
        self._tell()

    def _tell(self) -> None:
        self._came.set()
        self._came = asyncio.Event()

    async def _next(self) -> None:
        came = self._came
        await came.wait()
