"""What of a process's attempts is said to others: how many run, and which have run for long."""

from __future__ import annotations

import heapq
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from events.beats import Beat, Run
from events.subscriptions import Subscription
from workers.attempt import Attempt

MAX_SHOWN = 10
BUSY_S = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    """What stays the same while a worker process lives.

    Attributes:
        subscriptions: by name. threads: plain handlers that run at once. concurrency: async ones.
    """

    subscriptions: Mapping[str, Subscription]
    threads: int
    concurrency: int
    started_at: float = field(default_factory=time.time)

    def beat(self, attempts: Sequence[Attempt], draining: bool, paused: Iterable[str] = ()) -> Beat:
        """Return what the process is and what it is busy with.

        Args:
            paused: subscribers of whom it has heard that they are paused, and starts nothing more.
        """
        now = time.monotonic()
        running = [attempt for attempt in attempts if attempt.started_at]
        places = {True: self.concurrency, False: self.threads}
        return Beat(
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self.started_at,
            threads=self.threads,
            concurrency=self.concurrency,
            draining=draining,
            subscribers={name: places[subscription.is_async] for name, subscription in self.subscriptions.items()},
            types={name: subscription.types for name, subscription in self.subscriptions.items()},
            paused=tuple(sorted(paused)),
            running=len(running),
            busy=tuple(_run(attempt, now) for attempt in heapq.nsmallest(MAX_SHOWN, running, key=_started_at)),
        )


def long_running(attempts: Sequence[Attempt], usual_s: Callable[[str], float]) -> Mapping[str, int]:
    """Count per subscriber the handlers that run for `BUSY_S`, or have: room that a window need not wait for.

    Args:
        usual_s: how long the handlers of a subscriber usually run; 0 where none has ended.
    """
    before = time.monotonic() - BUSY_S
    slow = {name for name in {attempt.lease.subscriber for attempt in attempts} if usual_s(name) >= BUSY_S}
    started = [attempt for attempt in attempts if attempt.started_at > 0]
    return Counter(
        attempt.lease.subscriber
        for attempt in started
        if attempt.lease.subscriber in slow or attempt.started_at < before
    )


def _run(attempt: Attempt, now: float) -> Run:
    lease = attempt.lease
    for_s = round(now - attempt.started_at, 3)
    return Run(lease.subscriber, lease.event_id, lease.frame.type, lease.attempt, for_s)


def _started_at(attempt: Attempt) -> float:
    return attempt.started_at
