"""The settler: one thread that settles finished attempts in groups, and never loses one.

A settlement is sent until Redis has answered it: while Redis is away the queue grows by at most
what this process holds. `refused` is not the handler's failure: the lease went to another worker, or
an earlier send of the same settlement arrived and only its reply was lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from events.deliveries import Deliveries, Settlement, Verdict
from events.errors import EventBusError, RedisUnavailable
from events.frame import Lease
from workers.attempt import unpublishable

MAX_ITEMS = 200
MAX_BYTES = 1_000_000
MAX_EVENTS = 500

log = logging.getLogger("eventbus.settler")


class Settler:
    """Settles what is put into it, from a thread of its own.

    Args:
        deliveries: where to settle.
        gone: called with each lease that is no longer this process's.
    """

    def __init__(self, deliveries: Deliveries, gone: Callable[[Lease], None]) -> None:
        self._deliveries = deliveries
        self._gone = gone
        self._queue: deque[Settlement] = deque()
        self._wake = threading.Condition()
        self._in_hand = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="eventbus-settler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, settlement: Settlement) -> None:
        """Take a settlement; never blocks on Redis and never raises."""
        with self._wake:
            self._queue.append(settlement)
            if len(self._queue) == 1:
                self._wake.notify_all()

    def flush(self, deadline: float) -> bool:
        """Wait until all that was put is answered, or the deadline (monotonic seconds) passes."""
        with self._wake:
            while self._queue or self._in_hand:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._wake.wait(min(left, 0.2))
        return True

    def stop(self, deadline: float) -> bool:
        """Flush, then end the thread; return whether everything was answered."""
        flushed = self.flush(deadline)
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(max(0.0, deadline - time.monotonic()) + 1.0)
        return flushed

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    return
                batch = self._take_batch()
                self._in_hand = len(batch)
            self._settle(batch)
            with self._wake:
                self._in_hand = 0
                self._wake.notify_all()

    def _take_batch(self) -> list[Settlement]:
        batch: list[Settlement] = []
        size = events = 0
        while self._queue and len(batch) < MAX_ITEMS and size < MAX_BYTES and events < MAX_EVENTS:
            settlement = self._queue.popleft()
            batch.append(settlement)
            events += len(settlement.events)
            size += len(settlement.output) + sum(
                len(event[-1]) for event in settlement.events if isinstance(event[-1], bytes)
            )
        return batch

    def _settle(self, batch: list[Settlement]) -> None:
        pause = 0.05
        while not self._stopping:
            try:
                verdicts = self._deliveries.settle(batch)
            except RedisUnavailable as error:
                log.warning("Settling waits for Redis: %s", error)
            except EventBusError as error:
                if len(batch) > 1:
                    for settlement in batch:
                        self._settle([settlement])
                    return
                log.error("Settling %r failed and is tried again: %s", batch[0].lease, error)
            else:
                self._answer(batch, verdicts)
                return
            self._pause(pause)
            pause = min(pause * 2, 1.0)

    def _pause(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, seconds)

    def _answer(self, batch: list[Settlement], verdicts: list[Verdict | EventBusError]) -> None:
        later = []
        for settlement, verdict in zip(batch, verdicts, strict=True):
            if verdict == "later":
                later.append(settlement)
                continue
            if isinstance(verdict, EventBusError):
                log.error("%r: %s", settlement.lease, verdict)
                self.put(unpublishable(settlement, verdict))
                continue
            if verdict == "refused":
                log.info("%r was settled before, or is another worker's now.", settlement.lease)
            self._gone(settlement.lease)
        if later:
            self._settle(later)
