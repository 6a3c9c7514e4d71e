"""The Dramatiq broker on Streams consumer groups: where Dramatiq's world meets ours.

Dramatiq brings actors, worker threads, middleware and the command line. A consumer hands out one
delivery when a thread or a place on the loop is free; `ack` and `nack` pass the attempt on to be
settled and touch no socket. Retries, delays, time limits and dead letters are settlements, so
Dramatiq's middleware for them is not installed.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dramatiq
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.middleware import CurrentMessage, Middleware, MiddlewareError

from events.errors import (
    CertificateRefused,
    EmbeddedServerError,
    EventBusError,
    LoginRefused,
    ScriptFailed,
    Unavailable,
)
from events.subscriptions import Subscription
from workers.actors import declare_actors
from workers.attempt import Attempt
from workers.engine import Engine
from workers.messages import message_of

OPEN_RETRY_S = 1.0
REPEATED_SIGNAL_S = 2.0
MAX_WAKES_PER_S = 32.0  # of all consumers, for nothing: Dramatiq has a thread for each

log = logging.getLogger("eventbus.worker")


def _always() -> bool:
    return True


class StreamsBroker(Broker):
    """Serves the actors of some subscribers from their queues in Redis.

    Args:
        subscriptions: whose actors to declare.
        make_engine: called once, at the worker's boot, with the number of worker threads.
        grace_s: seconds that running handlers get when the worker stops.
        keep_waiting: asked at boot while servers cannot be reached; False makes the boot fail instead.
        middleware: Dramatiq middleware to install besides ours.
    """

    def __init__(
        self,
        subscriptions: Sequence[Subscription],
        make_engine: Callable[[int], Engine],
        *,
        grace_s: float,
        keep_waiting: Callable[[], bool] = _always,
        middleware: Iterable[Middleware] = (),
    ) -> None:
        lifecycle = Lifecycle(make_engine, keep_waiting)
        super().__init__(middleware=[lifecycle, CurrentMessage(), *middleware])
        self.engine: Engine = _NotBooted()  # type: ignore[assignment]
        self._own_middleware = len(self.middleware)
        self.grace_s = grace_s
        self.subscriptions = {subscription.name: subscription for subscription in subscriptions}
        self.actor_options |= {"max_retries", "time_limit"}
        declare_actors(self, subscriptions)

    @property
    def may_go_on(self) -> bool:
        """Whether deliveries may run without a message of their own: an application's middleware looks at each."""
        return len(self.middleware) == self._own_middleware

    def declare_queue(self, queue_name: str) -> None:
        """Note a subscriber's queue; in Redis it is declared with the subscriber."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = queue_name
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Return the consumer of a subscriber's deliveries; how many to hold ready is our choice."""
        self.engine.receiver.attend(queue_name)
        return DeliveryConsumer(self.engine, queue_name, max(timeout / 1000, len(self.subscriptions) / MAX_WAKES_PER_S))

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Refuse: actors here are reached by publishing events.

        Raises:
            EventBusError: always, saying what to do.
        """
        raise EventBusError(
            f"The actor {message.actor_name!r} cannot be sent messages: publish an event of its type instead, "
            "and every subscriber of the type gets it. For jobs that are not events use a broker of Dramatiq's own."
        )


class DeliveryConsumer(Consumer):
    """Iterates over one subscriber's deliveries."""

    def __init__(self, engine: Engine, queue_name: str, timeout_s: float) -> None:
        self._engine = engine
        self._queue_name = queue_name
        self._timeout_s = timeout_s

    def __next__(self) -> MessageProxy | None:
        attempt = self._engine.take(self._queue_name, self._timeout_s)
        if attempt is None:
            if self._engine.draining:
                time.sleep(0.01)  # nothing more will come; Dramatiq asks until it is stopped
            return None
        return DeliveryProxy(attempt)

    def ack(self, message: MessageProxy) -> None:
        """Pass the attempt on to be settled, unless the loop does that."""
        attempt: Attempt = message.attempt
        if not attempt.deferred:
            self._engine.finish(attempt)

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Hand back messages that Dramatiq took and never started."""
        for message in messages:
            message.attempt.cancelled = True
            self._engine.finish(message.attempt)


class DeliveryProxy(MessageProxy):
    """A delivery as Dramatiq sees it; keeps the exception that decides how it is settled."""

    attempt: Attempt

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(message_of(attempt))
        self.attempt = attempt

    def stuff_exception(self, exception: BaseException) -> None:
        super().stuff_exception(exception)
        self.attempt.error = exception


class BootFailed(EventBusError, MiddlewareError):
    """The worker cannot start; Dramatiq lets this error of a middleware pass. Its cause says why."""


class BootRefused(BootFailed, dramatiq.BrokerConnectionError):
    """A server refuses the worker: what Dramatiq's command answers with its code for that, 3."""


class Lifecycle(Middleware):
    """Opens the engine when the worker boots and drains it before the worker stops."""

    def __init__(self, make_engine: Callable[[int], Engine], keep_waiting: Callable[[], bool]) -> None:
        self._make_engine = make_engine
        self._keep_waiting = keep_waiting

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        assert isinstance(broker, StreamsBroker)
        is_mixed = worker.worker_threads > 1 and any(s.is_async for s in broker.subscriptions.values())
        # A thread stays free to start async handlers while plain ones fill the others.
        threads = worker.worker_threads - 1 if is_mixed else worker.worker_threads
        try:
            broker.engine = self._opened(threads)
            broker.engine.receiver.quick.is_on = broker.may_go_on
        except EventBusError as error:
            refused = isinstance(error, (Unavailable, ScriptFailed, EmbeddedServerError))
            raise (BootRefused if refused else BootFailed)(f"The worker cannot start: {error}") from error

    def _opened(self, threads: int) -> Engine:
        while True:
            try:
                engine = self._make_engine(threads)
                engine.open()
                return engine
            except (Unavailable, ScriptFailed) as error:
                refused = isinstance(error, LoginRefused | CertificateRefused)
                is_final = not error.passes if isinstance(error, ScriptFailed) else refused
                if is_final or not self._keep_waiting():
                    raise
                log.error("The worker waits: %s", error)
                time.sleep(OPEN_RETRY_S)

    def after_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        ignore_repeated_signals()

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        assert isinstance(broker, StreamsBroker)
        broker.engine.drain(broker.grace_s)

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        assert isinstance(broker, StreamsBroker)
        broker.engine.close()


def ignore_repeated_signals() -> None:
    """Make Dramatiq's handlers ignore a signal that repeats one of the last two seconds.

    A process group and Dramatiq's main process both forward SIGTERM; the second one would kill.
    """
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            previous = signal.getsignal(number)
            if callable(previous) and getattr(previous, "__module__", "") == "dramatiq.cli":
                signal.signal(number, _once_in_a_while(previous))
    except ValueError:
        pass  # not the main thread: nobody but the application handles signals


def _once_in_a_while(handler: Callable[..., Any]) -> Callable[[int, Any], None]:
    last = 0.0

    def wrapped(number: int, frame: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > REPEATED_SIGNAL_S:
            last = now
            handler(number, frame)

    return wrapped


class _NotBooted:
    """Stands in for the engine until the worker boots."""

    def __getattr__(self, name: str) -> Any:
        raise EventBusError("The worker has not booted: start a dramatiq.Worker on this broker first.")
