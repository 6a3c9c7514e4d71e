"""The settler: one thread that settles finished attempts in groups, and never loses one.

A single one, where nothing else is under way, is settled by the thread that brings it.

A settlement is sent until Redis has answered it: while Redis is away the queue grows by at most
what this process holds. `refused` is not the handler's failure: the lease went to another worker, or
an earlier send of the same settlement arrived and only its reply was lost.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable

from events.deliveries import Deliveries, Settlement, Verdict
from events.errors import EventBusError, RedisUnavailable, ScriptFailed
from events.frame import Lease
from workers.about import about
from workers.attempt import unpublishable

MAX_ITEMS = 200
MAX_BYTES = 1_000_000
MAX_EVENTS = 500
POSTPONE_S = 5.0
GATHER_S = 0.003
WORTH_WAKING = 32

log = logging.getLogger("eventbus.settler")


class Settler:
    """Settles what is put into it, from a thread of its own, and what is brought to it alone in the thread that does.

    Args:
        deliveries: where to settle.
        gone: called with each lease that is no longer this process's.
        running: tells how many attempts have not ended yet, or only just.
        settled: called with each lease whose settlement was answered, and the answer.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        gone: Callable[[Lease], None],
        running: Callable[[], int],
        settled: Callable[[Lease, str], None] | None = None,
    ) -> None:
        self._settled = settled
        self._deliveries = deliveries
        self._gone = gone
        self._running = running
        self._queue: deque[Settlement] = deque()
        self._postponed: deque[tuple[float, Settlement]] = deque()
        self._wake = threading.Condition()
        self._in_hand = 0
        self._elsewhere = 0  # how many other threads settle
        self._enough = math.inf  # so many, and it gathers no more
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="eventbus-settler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, *settlements: Settlement) -> None:
        """Take settlements; never blocks on Redis and never raises."""
        with self._wake:
            was_empty = not self._queue
            self._queue.extend(settlements)
            if was_empty or len(self._queue) >= self._enough:
                self._wake.notify_all()

    def settle_here(self, settlement: Settlement) -> None:
        """Settle in the calling thread, which waits for Redis, and wakes nobody.

        Where others are settled already, and where Redis does not answer, it is put to them: sent again it is refused
        if it had arrived.

        Raises:
            BaseException: only what somebody has raised in this thread, such as an interrupt; nothing is lost by it.
        """
        with self._wake:
            is_first = not (self._queue or self._in_hand or self._postponed or self._stopping)
            self._elsewhere += is_first
        if not is_first:
            self.put(settlement)
            return
        try:
            self._answer([settlement], self._deliveries.settle([settlement]))
        except BaseException as error:
            self.put(settlement)
            if not isinstance(error, Exception):
                raise
        finally:
            with self._wake:
                self._elsewhere -= 1
                self._wake.notify_all()

    def flush(self, deadline: float) -> bool:
        """Wait until all that was put is answered, or the deadline (monotonic seconds) passes.

        What failed and waits to be sent again is sent once more now.
        """
        with self._wake:
            self._postponed = deque((0.0, settlement) for _, settlement in self._postponed)
            self._wake.notify_all()
            while self._queue or self._in_hand or self._elsewhere or self._postponed:
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
                while not self._stopping and not self._is_due():
                    self._wake.wait(self._postponed[0][0] - time.monotonic() if self._postponed else None)
                if self._stopping:
                    return
                self._gather()
                batch = self._take_batch()
                self._in_hand = len(batch)
            try:
                self._settle(batch)
            except Exception:
                log.exception("%d settlements could not be sent; they are tried one by one.", len(batch))
                self._one_by_one(batch)
            with self._wake:
                self._in_hand = 0
                self._wake.notify_all()

    def _gather(self) -> None:
        """While other handlers run, wait a moment for them: a group costs Redis little more than one.

        Nobody waits for it who is not waiting for those anyway, and room in the window comes in groups
        too, so that reads do. Settling and reading one by one is five times slower.
        """
        until = time.monotonic() + GATHER_S
        while not self._stopping and len(self._queue) < (others := min(MAX_ITEMS, self._running())):
            left = until - time.monotonic()
            if left <= 0:
                break
            self._enough = max(others, WORTH_WAKING)
            self._wake.wait(left)
        self._enough = math.inf

    def _is_due(self) -> bool:
        """Put back what was postponed and is due; tell whether there is something to settle."""
        now = time.monotonic()
        while self._postponed and self._postponed[0][0] <= now:
            self._queue.append(self._postponed.popleft()[1])
        return bool(self._queue)

    def _take_batch(self) -> list[Settlement]:
        batch: list[Settlement] = []
        size = events = 0
        while self._queue and len(batch) < MAX_ITEMS and size < MAX_BYTES and events < MAX_EVENTS:
            settlement = self._queue.popleft()
            batch.append(settlement)
            events += len(settlement.events)
            size += settlement.size_bytes
        return batch

    def _settle(self, batch: list[Settlement]) -> None:
        pause = 0.05
        while not self._stopping:
            try:
                verdicts = self._deliveries.settle(batch)
            except RedisUnavailable as error:
                log.warning("Settling waits for Redis: %s", error)
            except EventBusError as error:
                if isinstance(error, ScriptFailed) and error.passes:
                    log.warning("Settling waits for Redis: %s", error)
                else:
                    log.error("%d settlements were refused, and are tried one by one: %s", len(batch), error)
                    self._one_by_one(batch)
                    return
            else:
                self._answer(batch, verdicts)
                return
            self._pause(pause)
            pause = min(pause * 2, 1.0)

    def _one_by_one(self, batch: list[Settlement]) -> None:
        """Send each by itself; one that fails alone waits, so that it does not hold up the others."""
        for settlement in batch:
            try:
                self._answer([settlement], self._deliveries.settle([settlement]))
            except RedisUnavailable:
                self.put(settlement)
            except Exception as error:
                log.error(
                    "Settling %r failed, and is tried again in %.0f s: %s", settlement.lease, POSTPONE_S, error,
                    extra=about(settlement.lease, settlement),
                )  # fmt: skip
                with self._wake:
                    self._postponed.append((time.monotonic() + POSTPONE_S, settlement))

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
                log.error("%r: %s", settlement.lease, verdict, extra=about(settlement.lease, settlement))
                self.put(unpublishable(settlement, verdict))
                continue
            if verdict == "refused":
                log.info(
                    "%r was settled before, or is another worker's now.",
                    settlement.lease,
                    extra=about(settlement.lease),
                )
            if self._settled is not None:
                self._settled(settlement.lease, verdict)
            self._gone(settlement.lease)
        for settlement in reversed(later):
            with self._wake:
                self._queue.appendleft(settlement)
