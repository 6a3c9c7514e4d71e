"""What of a process's attempts is said to others: how many run, and which have run for long."""

from __future__ import annotations

import heapq
import math
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
    """Count per subscriber the handlers that have run for `BUSY_S`, or usually do: room a window need not wait for.

    Args:
        usual_s: how long the handlers of a subscriber usually run; 0 where none has ended.
    """
    before = time.monotonic() - BUSY_S
    since: dict[str, float] = {}  # of each subscriber: what began before that counts
    counts: Counter[str] = Counter()
    for attempt in attempts:
        name, started_at = attempt.lease.subscriber, attempt.started_at
        if name not in since:
            since[name] = math.inf if usual_s(name) >= BUSY_S else before
        if 0 < started_at < since[name]:
            counts[name] += 1
    return counts


def _run(attempt: Attempt, now: float) -> Run:
    lease = attempt.lease
    for_s = round(now - attempt.started_at, 3)
    return Run(lease.subscriber, lease.event_id, lease.frame.type, lease.attempt, for_s)


def _started_at(attempt: Attempt) -> float:
    return attempt.started_at
