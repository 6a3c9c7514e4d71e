"""The fleet as it is seen from outside: who lives, what they do, and whether they are enough.

Values only; `Inspection` reads them. Moments are by the server's clock, whatever the hosts' clocks say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from events.beats import Beat, read_beat

if TYPE_CHECKING:
    from events.inspection import Queue

LIVE_S = 5.0
"""A worker beats once a second; after this long without a beat it does not count as live."""
MAX_SPAN_S = 3e8


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process.

    Attributes:
        consumer: its name as the owner of leases, random per start.
        seen_at: when it beat last. silent_s: seconds since then.
        said: what it said of itself then.
    """

    consumer: str
    seen_at: datetime
    silent_s: float
    said: Beat

    @property
    def is_alive(self) -> bool:
        """Whether it beat within `LIVE_S`; one that did not was killed, is stalled, or cannot reach Redis."""
        return self.silent_s <= LIVE_S

    @property
    def is_open(self) -> bool:
        """Whether it starts what comes."""
        return self.is_alive and not self.said.draining

    @property
    def started_at(self) -> datetime | None:
        """When it started, by its own clock; None where it has not said so, or not a moment that there is."""
        try:
            return datetime.fromtimestamp(self.said.started_at, UTC) if self.said.started_at > 0 else None
        except (OverflowError, ValueError, OSError):
            return None

    def before(self, seconds: float) -> datetime:
        """Return the moment that was so many seconds before the last beat."""
        return self.seen_at - timedelta(seconds=min(max(0.0, seconds), MAX_SPAN_S))


@dataclass(frozen=True, slots=True)
class Lag:
    """What one subscriber has before it, and who is there to do it: for whoever starts and stops workers.

    Attributes:
        queue: what it has before it.
        workers: processes that are alive, do not drain, and handle it.
        capacity: deliveries of it that these may run at once, its `concurrency` included. A process's places are
            shared by its subscribers and count for each of them: do not add up capacities.
    """

    queue: Queue
    workers: int
    capacity: int

    @property
    def lag(self) -> int:
        """Deliveries that wait for a worker: ready or in lanes."""
        return self.queue.ready + self.queue.waiting


def worker_of(name: bytes, beaten_us: float, raw: bytes | None, now_us: int) -> Worker:
    """Read a worker's last beat; a moment that is none is read as the beginning of time, one to come as now."""
    seen_us = min(max(0.0, beaten_us), float(now_us)) if beaten_us == beaten_us else 0.0
    seen_at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=seen_us)
    return Worker(name.decode(errors="replace"), seen_at, (now_us - seen_us) / 1e6, read_beat(raw))


def lag_of(queue: Queue, workers: Sequence[Worker]) -> Lag:
    """Put together what a subscriber has before it and which of the fleet's workers handle it."""
    said = [worker.said.subscribers for worker in workers if worker.is_open]
    places = [of[queue.subscriber] for of in said if queue.subscriber in of]
    most = sum(places) if queue.concurrency is None else queue.concurrency
    return Lag(queue, len(places), min(sum(places), most))
