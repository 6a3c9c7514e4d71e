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
import threading
import time
from collections.abc import Callable, Mapping

from dramatiq.middleware import SkipMessage

from events.context import handling
from events.deliveries import Deliveries, Settlement
from events.errors import Discard, EventBusError
from events.frame import Lease
from events.namespace import Namespace
from events.settings import Settings
from events.subscriptions import Subscription
from workers.attempt import (
    Attempt,
    Interrupted,
    JoinIncomplete,
    NotStartedAgain,
    conclude,
    dead,
    failed,
    hand_back,
    materialized,
    require_an_attempt,
)
from workers.busy import Process, long_running
from workers.credits import Credits
from workers.eviction import warn_of_eviction
from workers.held import Held
from workers.keeper import LeaseKeeper
from workers.last_beats import LastBeats
from workers.limits import Interrupter
from workers.loop import CANCEL_AGAIN_S, AsyncHandlers, LoopThread
from workers.receiver import Receiver
from workers.saying import say
from workers.settler import Settler

PUT_OFF_US = 5_000_000
MAX_SUSPECT_STARTS = 2
LAST_WORDS_S = 2.0
SAY_AGAIN_S = 60.0

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
        self._settler = Settler(self._deliveries, self._gone, lambda: len(self._running))
        self.receiver = Receiver(
            self._deliveries,
            self._held,
            subscriptions,
            Credits(threads, settings.concurrency),
            lease_s=settings.lease_s,
            refused=self._refuse,
            spared=lambda lease: self._settler.put(hand_back(lease)),
            reopen=self._reopen,
            beat=self._beat,
            busy=lambda: long_running(self._attempts()),
        )
        self.namespace = namespace
        self._keeper = LeaseKeeper(self._deliveries, self._held, settings.lease_s, self._lost, self._give_up)
        self._interrupter = Interrupter()
        self._own_loop = None if loop is not None else LoopThread()
        self.loop = self._own_loop.loop if self._own_loop else loop
        assert self.loop is not None
        patience_s = min(CANCEL_AGAIN_S, settings.lease_s / 2)  # to end before the handler counts as hanging
        self._async = AsyncHandlers(self.loop, self._begins, self.finish, patience_s)
        self._running: dict[int, Attempt] = {}
        self._idle = threading.Condition()
        self._threads = threads
        self._process = Process(subscriptions, threads, settings.concurrency)
        self._put_off_said_at = 0.0
        self._drained_by = float("inf")
        self._last_beats = LastBeats(lambda: self._deliveries.promote({}, 0, self._beat()))
        self.draining = False
        self.handled = 0  # attempts that have run here and ended, however they did

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
        if lease is None:
            return None
        attempt = Attempt(lease, self.subscriptions[name])
        with self._idle:
            self._running[id(attempt)] = attempt
        return attempt

    def run(self, attempt: Attempt) -> None:
        """Run the attempt's handler in the calling thread, or give it to the loop.

        Raises:
            BaseException: what a plain handler raised.
        """
        if (
            self.draining
            or not self._is_wanted(attempt)
            or not self._may_start(attempt)
            or not self._has_joined(attempt)
            or not self._is_wanted(attempt)  # again: Redis was asked in between
        ):
            attempt.cancelled = True
            return
        subscription = attempt.subscription
        if subscription.is_async:
            self._defer(attempt)
            return
        attempt.started_at = time.monotonic()
        result = self._interrupter.call(attempt, subscription.options.time_limit, lambda: _call(attempt))
        if hasattr(result, "__await__") or hasattr(result, "__aiter__"):
            self._defer(attempt, result)
        else:
            attempt.result = result

    def finish(self, attempt: Attempt) -> None:
        """End an attempt whose result or error is set; from any thread. A second end is none."""
        with self._idle:
            if attempt.finished:
                return
            attempt.finished = True
        elapsed_s = time.monotonic() - attempt.started_at if attempt.started_at else 0.0
        try:
            if attempt.abandoned:
                self._gone(attempt.lease)
            elif not self.receiver.has_let_go(attempt.lease):
                settlement = self._conclusion(attempt)
                self._settler.put(settlement)
                say(attempt, settlement)
        finally:
            self.receiver.finished(attempt.lease, elapsed_s)
            with self._idle:
                self._running.pop(id(attempt), None)
                self.handled += attempt.started_at > 0
                self._idle.notify_all()

    @property
    def hangs(self) -> bool:
        """Whether every thread is held by a handler that neither ends nor can be interrupted."""
        with self._idle:
            hung = sum(a.abandoned and not a.deferred and a.started_at > 0 for a in self._running.values())
        return hung >= self._threads

    def drain(self, grace_s: float) -> None:
        """Stop: hand back what has not started, wait for what runs, then interrupt it; settle all."""
        self.hurry(grace_s)
        self.draining = True
        for lease in self.receiver.stop():
            self._settler.put(hand_back(lease))
        self._last_beats.start()
        if not self._wait_idle():
            late = self._attempts()
            log.warning("%d handlers still run at the end of the grace and are interrupted.", len(late))
            for attempt in late:
                self._cancel(attempt)
            self._drained_by = time.monotonic() + LAST_WORDS_S
            self._wait_idle()
        if not self._settler.flush(max(self._drained_by, time.monotonic() + LAST_WORDS_S)):
            log.error("Some attempts could not be settled before the end; they will be tried again elsewhere.")

    def hurry(self, grace_s: float) -> None:
        """Let a drain, begun or to come, wait that many seconds from now for what runs, and no longer."""
        with self._idle:
            self._drained_by = min(self._drained_by, time.monotonic() + grace_s)
            self._idle.notify_all()

    def close(self) -> None:
        """End the threads. Call after `drain`."""
        self._last_beats.stop()
        try:
            self._deliveries.leave(self.subscriptions)
        except EventBusError as error:
            log.warning("The worker leaves without a word: %s", error)
        self._settler.stop(time.monotonic() + LAST_WORDS_S)
        self._keeper.stop()
        self._interrupter.stop()
        if self._own_loop is not None:
            self._own_loop.stop()

    def _beat(self) -> str:
        attempts = self._attempts()
        about_to = {a.lease.subscriber for a in attempts if not a.started_at and not self.receiver.has_let_go(a.lease)}
        return self._process.beat(attempts, self.draining, self.receiver.paused - about_to).encode()

    def _attempts(self) -> list[Attempt]:
        with self._idle:
            return list(self._running.values())

    def _conclusion(self, attempt: Attempt) -> Settlement:
        if attempt.cancelled and attempt.error is None and not attempt.started_at:
            at_once = self.draining or attempt.lease.subscriber in self.receiver.paused
            return hand_back(attempt.lease, delay_us=0 if at_once else PUT_OFF_US)
        try:
            return conclude(attempt, self._settings.max_event_bytes)
        except BaseException as error:
            log.exception("The result of %r could not be read.", attempt)
            return failed(attempt, error)

    def _defer(self, attempt: Attempt, begun: object = None) -> None:
        """Leave the attempt to the loop, which settles it; put it off when the loop has ended."""
        attempt.deferred = True
        try:
            self._async.submit(attempt, begun)
        except RuntimeError as error:
            log.error("%r is put off: the event loop of the handlers has ended (%s).", attempt, error)
            attempt.deferred, attempt.cancelled, attempt.started_at = False, True, 0.0

    def _is_wanted(self, attempt: Attempt) -> bool:
        """Whether the handler may still be started; asked again wherever a pause can have come between."""
        lost = attempt.abandoned or attempt.cancelled or not self.receiver.may_start(attempt.lease)
        return not lost and attempt.lease.is_surely_ours(self._settings.lease_s)

    def _begins(self, attempt: Attempt) -> bool:
        """The loop has come to an attempt: whether its handler may still be started."""
        self.receiver.began(attempt.lease)
        return self._is_wanted(attempt)

    def _may_start(self, attempt: Attempt) -> bool:
        """Count the start of a suspect; what killed its workers, or has no attempt left, is not started again."""
        if attempt.lease.starts < MAX_SUSPECT_STARTS:
            require_an_attempt(attempt)
        if not attempt.lease.suspect:
            return True
        try:
            starts = self._deliveries.begin(attempt.lease)
        except EventBusError as error:
            log.warning("%r waits: %s", attempt, error)
            return False
        if starts == 0:
            attempt.abandoned = True
            return False
        if starts > MAX_SUSPECT_STARTS:
            raise NotStartedAgain(
                "It killed its worker three times: each time the process died, or fell silent, while it ran."
            )
        return True

    def _has_joined(self, attempt: Attempt) -> bool:
        """Fetch what a join has seen. Retried from the dead letters it runs with what there is.

        Raises:
            JoinIncomplete: something is missing, and the subscriber wants all or nothing.
        """
        join, lease = attempt.subscription.options.join, attempt.lease
        if join is None:
            return True
        try:
            attempt.joined = self._deliveries.joined(lease)
        except EventBusError as error:
            log.warning("%r waits: %s", attempt, error)
            return False
        if join.partial == "dead" and not attempt.joined.complete and not lease.frame.redelivery:
            raise JoinIncomplete(f"The join is not complete: {attempt.joined.lack}.")
        return True

    def _refuse(self, lease: Lease) -> None:
        """Settle a delivery that no handler here can take."""
        if lease.fault is not None:
            log.error("A delivery of %s cannot be read and becomes a dead letter: %s", lease.subscriber, lease.fault)
            self._settler.put(dead(lease, lease.fault))
        else:
            self._settler.put(hand_back(lease, delay_us=PUT_OFF_US))
            if time.monotonic() - self._put_off_said_at > SAY_AGAIN_S:
                self._put_off_said_at = time.monotonic()
                log.warning(
                    "A delivery of %s is put off: no handler here takes the type %r. It waits for a process that does.",
                    lease.subscriber, lease.frame.type,
                )  # fmt: skip

    def _gone(self, lease: Lease) -> None:
        """The delivery is settled, or another worker's."""
        self._held.drop(lease)
        self.receiver.settled(lease)

    def _reopen(self) -> None:
        self.namespace.forget()
        self._declare()

    def _lost(self, lease: Lease) -> None:
        self._gone(lease)
        self.receiver.forget(lease)
        attempt = next((a for a in self._attempts() if a.lease is lease), None)
        if attempt is not None and not attempt.finished:
            log.warning("%r was taken over by another worker; what it does here is void.", attempt)
            attempt.abandoned = True
            self._cancel(attempt)

    def _give_up(self) -> None:
        """Let go of what hangs: a handler a lease beyond its limit, and those of a loop that has ended.

        What is not renewed goes to another worker; what comes of it here is void.
        """
        now = time.monotonic()
        running = [a for a in self._attempts() if (a.started_at or a.deferred) and not a.abandoned]
        if self._async.has_ended:
            if not self.draining:
                log.error("The handlers' event loop has ended without stop_consuming: this process reads no more.")
                self.draining = True
                for lease in self.receiver.stop():
                    self._settler.put(hand_back(lease))
            for attempt in [a for a in running if a.deferred]:
                attempt.cancelled, attempt.error = True, Interrupted()
                self.finish(attempt)
        for attempt in running:
            limit_s = attempt.subscription.options.time_limit
            over_s = now - attempt.started_at - limit_s if attempt.started_at and not attempt.finished else 0.0
            if over_s > self._settings.lease_s:
                log.error(
                    "%r hangs beyond its limit of %g s and cannot be interrupted; it is given up here.",
                    attempt,
                    limit_s,
                )
                attempt.abandoned = True
                self._gone(attempt.lease)

    def _cancel(self, attempt: Attempt) -> None:
        attempt.cancelled = True
        if attempt.deferred:
            self._async.cancel(attempt)
        else:
            self._interrupter.interrupt(attempt)

    def _wait_idle(self) -> bool:
        with self._idle:
            while self._running:
                left = self._drained_by - time.monotonic()
                if left <= 0:
                    return False
                self._idle.wait(left)
        return True


def _call(attempt: Attempt) -> object:
    """Call a plain handler with its context set."""
    token = handling.set(attempt.handling)
    try:
        return materialized(attempt.call())
    except SkipMessage as error:  # Dramatiq would take a message that was skipped for one that went well
        raise Discard(f"{type(error).__name__}: {error}") from error
    finally:
        handling.reset(token)
