"""What a worker process says of itself once a second, for people and for what scales a fleet.

It is a hint: nothing is decided by it but how it is shown. `events/inspection.py` reads it.
"""

from __future__ import annotations

import heapq
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence

from events.subscriptions import Subscription
from workers.attempt import Attempt

MAX_SHOWN = 10


class Heart:
    """Writes the beats of one process.

    Args:
        subscriptions: those whose deliveries it takes, by name.
        threads: plain handlers that it runs at once. concurrency: async ones.
    """

    def __init__(self, subscriptions: Mapping[str, Subscription], threads: int, concurrency: int) -> None:
        self._constant = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": time.time(),
            "threads": threads,
            "concurrency": concurrency,
            "subscribers": list(subscriptions),
            "types": {name: list(subscription.types) for name, subscription in subscriptions.items()},
        }

    def beat(self, running: Sequence[Attempt], *, draining: bool, paused: Iterable[str] = ()) -> str:
        """Return JSON: what the process is, how many handlers run, and the longest-running ones with their ages.

        Args:
            paused: subscribers of whom it has heard that they are paused, and starts nothing more.
        """
        now = time.monotonic()
        longest = heapq.nsmallest(MAX_SHOWN, running, key=lambda attempt: attempt.started_at)
        busy = [
            {
                "subscriber": attempt.lease.subscriber,
                "event_id": attempt.lease.event_id,
                "type": attempt.lease.frame.type,
                "attempt": attempt.lease.attempt,
                "for_s": round(now - attempt.started_at, 3),
            }
            for attempt in longest
        ]
        now_so = {"draining": draining, "running": len(running), "busy": busy, "paused": sorted(paused)}
        return json.dumps({**self._constant, **now_so})
