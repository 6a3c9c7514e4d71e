"""One worker process's delivery machine: everything between Redis and a handler, but Dramatiq.

    receiver ──lease──> consumer (workers.broker) ──> actor (workers.actors) ──> handler
        ▲                                                                          │
        └──── credit ──── finish(attempt) <── thread or loop ──────────────────────┘
                              │
                           settler ──> Redis ──> held.drop

It is opened once, by the broker's boot, and drained once, by its shutdown.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial

from events.deliveries import Deliveries
from events.errors import EventBusError
from events.frame import Lease
from events.namespace import Namespace
from events.settings import Settings
from events.subscriptions import Subscription
from workers.attempt import Attempt, Interrupted, hand_back
from workers.batches import may_be_led, share_out
from workers.beforehand import has_joined, may_start
from workers.busy import Process, long_running
from workers.credits import Credits
from workers.ending import conclusion
from workers.eviction import warn_of_eviction
from workers.going_on import go_on
from workers.hanging import Hanging
from workers.held import Held
from workers.keeper import LeaseKeeper
from workers.last_beats import LAST_WORDS_S, LastBeats
from workers.limits import Interrupter
from workers.loop import CANCEL_AGAIN_S, AsyncHandlers, LoopThread
from workers.receiver import Receiver
from workers.refusing import Refusing
from workers.running import Running
from workers.saying import Ended, say_given_up, say_that, tell
from workers.settler import Settler
from workers.spans import spans_of

log = logging.getLogger("eventbus.worker")


class Engine:
    """Runs the deliveries of some subscribers in this process.

    Args:
        namespace: may restore a lost epoch.
        subscriptions: by name.
        threads: plain handlers that run at once.
        loop: where async handlers run; None makes a loop of its own.
        declare: writes the subscribers to store and Redis; called before reading and after a reset.

    Attributes:
        namespace: as given. loop: where async handlers run.
    """

    def __init__(
        self,
        namespace: Namespace,
        settings: Settings,
        subscriptions: Mapping[str, Subscription],
        *,
        threads: int,
        declare: Callable[[], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.subscriptions = subscriptions
        self._settings = settings
        self._declare = declare
        self._deliveries = Deliveries(namespace, self.consumer, settings.max_routes)
        self._held = Held()
        self._running = Running()
        self._threads = threads
        self._spans = spans_of(settings)
        settled = None if self._spans is None else self._spans.settled
        self._settler = Settler(self._deliveries, self._gone, lambda: len(self._running), settled)
        self.receiver = Receiver(
            self._deliveries,
            self._held,
            subscriptions,
            Credits(threads, settings.concurrency),
            lease_s=settings.lease_s,
            refused=Refusing(self._settler.put).refuse,
            spared=lambda lease: self._settler.put(hand_back(lease)),
            reopen=self._reopen,
            beat=self._beat,
            busy=lambda: long_running(self._running.all(), self.receiver.quick.usual_s),
        )
        self.namespace = namespace
        self._keeper = LeaseKeeper(self._deliveries, self._held, settings.lease_s, self._lost, self._give_up)
        self._interrupter = Interrupter()
        self._own_loop = None if loop is not None else LoopThread()
        self.loop = self._own_loop.loop if self._own_loop else loop
        assert self.loop is not None
        patience_s = min(CANCEL_AGAIN_S, settings.lease_s / 2)  # to end before the handler counts as hanging
        self._async = AsyncHandlers(self.loop, self._begin_on_loop, partial(go_on, self), patience_s)
        self._hanging = Hanging(self._running.all, self.loop, settings.lease_s, threads)
        self._process = Process(subscriptions, threads, settings.concurrency)
        self._drained_by = float("inf")
        self._last_beats = LastBeats(
            lambda: self._deliveries.promote({}, 0, self._beat()), lambda: self._deliveries.leave(subscriptions)
        )
        self.draining = False

    def open(self) -> None:
        """Declare the subscribers, look at the server's policy, and start the threads.

        Raises:
            Unavailable: when Redis or the store cannot be reached.
            EventBusError: when a subscriber cannot be declared.
        """
        self._declare()
        warn_of_eviction(self.namespace)
        for part in (self._settler, self._keeper, self._interrupter, self._own_loop, self.receiver):
            if part is not None:
                part.start()

    def take(self, name: str, timeout_s: float) -> Attempt | None:
        """Return the next attempt of a subscriber that may start, or None after the time-out."""
        lease = self.receiver.take(name, timeout_s)
        return None if lease is None else self._attempt(lease)

    def _attempt(self, lease: Lease) -> Attempt:
        subscription, namespace = self.subscriptions[lease.subscriber], self.namespace.keys.namespace
        attempt = Attempt(lease, subscription, namespace)
        if subscription.options.batch and not lease.suspect:
            more = self.receiver.take_more(lease.subscriber, subscription.options.batch - 1)
            attempt.others = [Attempt(one, subscription, namespace, led=True) for one in more]
        self._running.add(attempt.batch)
        return attempt

    def run(self, attempt: Attempt) -> None:
        """Run the attempt's handler in the calling thread, or give it to the loop.

        Raises:
            BaseException: what a plain handler raised.
        """
        subscription = attempt.subscription
        if (
            not self._is_wanted(attempt)
            or not may_start(attempt, self._deliveries)
            or not has_joined(attempt, self._deliveries)
            or not (self._is_wanted(attempt) if subscription.is_async else self._begin(attempt))  # Redis was asked
        ):
            attempt.cancelled = True
            return
        if subscription.is_async:
            if not self._async.goes_on_at_once:  # what begins at once waits for no loop
                self.receiver.asks([one.lease for one in attempt.batch])
            self._defer(attempt)
            return
        result = self._interrupter.call(attempt, subscription.options.time_limit, attempt.call_in_context)
        if hasattr(result, "__await__") or hasattr(result, "__aiter__"):
            self._defer(attempt, result)
        else:
            attempt.result = result

    def finish(self, attempt: Attempt, *, goes_on: bool = False, lingers_until: float = 0.0) -> Attempt | None:
        """End an attempt whose result or error is set; from any thread. A second end is none.

        Args:
            lingers_until: until when the caller has nothing else to do, monotonic seconds.

        Returns:
            With `goes_on` the next attempt of its subscriber, if one may start now or comes until then.
        """
        with self._running.changed:
            if attempt.finished:
                return None
            attempt.finished = True
        elapsed_s = time.monotonic() - attempt.started_at if attempt.started_at else 0.0
        try:
            self._settle(attempt)
        except BaseException:
            goes_on = False  # nobody would run what follows
            raise
        finally:
            self._running.remove(attempt.batch)
            leases = [one.lease for one in attempt.batch]
            following = self.receiver.finished(leases, elapsed_s, goes_on=goes_on, lingers_until=lingers_until)
        return None if following is None else self._attempt(following)

    def _settle(self, attempt: Attempt) -> None:
        """Settle it and those that it leads; only then tell of it, for a log or an exporter may take its time."""
        ended: list[Ended] = []
        try:
            share_out(attempt)
            for one in attempt.batch:
                self._end(one, ended)
        finally:
            ends = [end for _, end in ended]
            if len(ends) == 1 and self._is_alone(attempt):
                self._settler.settle_here(*ends)
            else:
                self._settler.put(*ends)
        tell(attempt, ended, self._spans)

    def _is_alone(self, attempt: Attempt) -> bool:
        """Whether nothing else runs or waits here, and the calling thread, which is not the loop's, is not the last."""
        is_last = self._threads < 2 or attempt.subscription.is_async or attempt.deferred
        return not is_last and len(self._running) == 1 and self.receiver.is_empty

    def _end(self, attempt: Attempt, ended: list[Ended]) -> None:
        """Add how to settle it; one that cannot be is renewed no longer, and keeps nobody from theirs."""
        attempt.finished = True
        try:
            if attempt.abandoned:
                self._gone(attempt.lease)
            elif not self.receiver.has_let_go(attempt.lease):
                end = conclusion(attempt, self._settings.max_event_bytes, at_once=self._may_start_elsewhere(attempt))
                if self._spans is not None:
                    self._spans.settling(attempt)
                ended.append((attempt, end))
        except BaseException:
            say_that("The end of %r failed; what is not settled of it goes to another worker.", attempt, failed=True)
            self._gone(attempt.lease)

    @property
    def handled(self) -> int:
        """Attempts that have run here and ended, however they did."""
        return self._running.handled

    @property
    def hangs(self) -> str:
        """What is held by handlers that neither end nor can be interrupted, "Every thread"; empty when nothing is."""
        return self._hanging.what

    def drain(self, grace_s: float) -> None:
        """Stop: hand back what has not started, wait for what runs, then interrupt it; settle all.

        Nobody waits for handlers whose delivery is another worker's: their results are void.
        """
        self.hurry(grace_s)
        self._start_no_more()
        self._last_beats.start()
        if not self._running.until_idle(lambda: self._drained_by):
            late = [attempt for attempt in self._running.all() if not attempt.abandoned]
            log.warning("%d handlers still run at the end of the grace and are interrupted.", len(late))
            for attempt in late:
                self._cancel(attempt)
            self._drained_by = time.monotonic() + LAST_WORDS_S
            self._running.until_idle(lambda: self._drained_by)
        if not self._settler.flush(max(self._drained_by, time.monotonic() + LAST_WORDS_S)):
            log.error("Some attempts could not be settled before the end; they will be tried again elsewhere.")

    def hurry(self, grace_s: float) -> None:
        """Let a drain, begun or to come, wait that many seconds from now for what runs, and no longer."""
        with self._running.changed:
            self._drained_by = min(self._drained_by, time.monotonic() + grace_s)
            self._running.changed.notify_all()

    def close(self) -> None:
        """End the threads. Call after `drain`."""
        self._last_beats.stop()
        self._settler.stop(time.monotonic() + LAST_WORDS_S)
        if self._spans is not None:
            self._spans.close()
        self._keeper.stop()
        self._interrupter.stop()
        if self._own_loop is not None:
            self._own_loop.stop()

    def _beat(self) -> str:
        attempts = self._running.all()
        about_to = {a.lease.subscriber for a in attempts if not a.started_at and not self.receiver.has_let_go(a.lease)}
        return self._process.beat(attempts, self.draining, self.receiver.paused - about_to).encode()

    def _start_no_more(self) -> None:
        """Begin to drain: hand back what was read, and what waits for the loop to come to it."""
        with self._running.changed:
            self.draining = True
        waiting = [a for a in self._running.all() if a.deferred and not a.started_at]
        for attempt in waiting:
            attempt.cancelled = True
            self.finish(attempt)
        for lease in self.receiver.stop():
            self._settler.put(hand_back(lease))

    def _may_start_elsewhere(self, attempt: Attempt) -> bool:
        """Whether an attempt that did not start may be started by others at once.

        One that nothing kept from its start but the one that led it may.
        """
        if self.draining or attempt.lease.subscriber in self.receiver.paused:
            return True
        return attempt.led and not self._async.has_ended and attempt.lease.is_surely_ours(self._settings.lease_s)

    def _defer(self, attempt: Attempt, begun: object = None) -> None:
        """Leave the attempt to the loop, which settles it; put it off when the loop has ended, or a drain has begun."""
        with self._running.changed:
            attempt.cancelled = attempt.cancelled or (self.draining and not attempt.started_at)
            attempt.deferred = not attempt.cancelled
        if not attempt.deferred:
            return
        try:
            self._async.submit(attempt, begun)
        except RuntimeError as error:
            log.error("%r is put off: the event loop of the handlers has ended (%s).", attempt, error)
            attempt.deferred = False
            for one in attempt.batch:
                one.cancelled, one.started_at = True, 0.0

    def _is_wanted(self, attempt: Attempt) -> bool:
        """Whether the handler may still be started; asked again wherever a pause or a drain can have come between."""
        lease = attempt.lease
        lost = attempt.abandoned or attempt.cancelled or self.receiver.has_let_go(lease)
        stays = self.draining or lease.subscriber in self.receiver.paused
        return not (lost or stays) and lease.is_surely_ours(self._settings.lease_s)

    def _begin(self, attempt: Attempt) -> bool:
        """Let the handler start now, with those that it leads, if they still may. Once a drain has begun nothing does.

        Returns:
            Whether it starts; none of a batch does whose leader may not.
        """
        with self._running.changed:
            if not self._is_wanted(attempt):
                return False
            attempt.started_at = time.monotonic()
            for one in attempt.others:
                one.cancelled = not (self._is_wanted(one) and may_be_led(one))
                one.started_at = 0.0 if one.cancelled else attempt.started_at
        if self._spans is not None:
            self._spans.begin(attempt)
        return True

    def _begin_on_loop(self, attempt: Attempt) -> bool:
        self.receiver.began([one.lease for one in attempt.batch])
        return self._begin(attempt)

    def _gone(self, lease: Lease) -> None:
        """The delivery is settled, or another worker's."""
        self._held.drop(lease)
        self.receiver.settled(lease)

    def _reopen(self) -> None:
        try:
            self.namespace.forget()
            self._declare()
        except EventBusError as error:
            log.error("The subscribers could not be declared again: %s", error)

    def _lost(self, lease: Lease) -> None:
        self._gone(lease)
        self.receiver.forget(lease)
        attempt = next((a for a in self._running.all() if a.lease is lease), None)
        if attempt is not None and not attempt.finished:
            say_that("%r was taken over by another worker; what it does here is void.", attempt)
            self._let_go(attempt)
            self._cancel(attempt)

    def _give_up(self) -> None:
        """Let go of what hangs: a handler a lease beyond its limit, and those of a loop that has ended.

        What is not renewed goes to another worker; what comes of it here is void.
        """
        self._hanging.ask_loop()
        if self._async.has_ended:
            self._end_with_the_loop()
        for call in self._hanging.overdue():
            say_given_up(call)
            for attempt in call:
                self._let_go(attempt)
                self._gone(attempt.lease)

    def _end_with_the_loop(self) -> None:
        if not self.draining:
            log.error("The handlers' event loop has ended without stop_consuming: this process reads no more.")
            self._start_no_more()
        for attempt in [a for a in self._running.all() if a.deferred and not a.abandoned]:
            attempt.cancelled, attempt.error = True, Interrupted()
            self.finish(attempt)

    def _let_go(self, attempt: Attempt) -> None:
        """What comes of the attempt is void from now on, and a drain does not wait for it."""
        with self._running.changed:
            attempt.abandoned = True
            self._running.changed.notify_all()
        if attempt.trace is not None:
            attempt.trace.lost()

    def _cancel(self, attempt: Attempt) -> None:
        attempt.cancelled = True
        attempt.interrupted_at = attempt.interrupted_at or time.monotonic()
        if attempt.deferred:
            self._async.cancel(attempt)
        else:
            self._interrupter.interrupt(attempt)
