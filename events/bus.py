"""The bus: what applications and pipeline steps hold.

Composition: it wires publishing (events), consuming (workers) and asking (store). It decides
nothing about correctness; those decisions live in the scripts, the settler and the archiver.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, TypeVar

from events.backend import Backend
from events.context import handling
from events.errors import EventBusError, InvalidFilter, InvalidSubscription
from events.event import Event
from events.joining import Join
from events.publisher import Receipt
from events.records import RecordedEvent
from events.routes import undeclare
from events.sender import Answer, Sender
from events.settings import Settings
from events.subscriber import CallbackSubscriber, runs_on_a_loop
from events.subscriptions import Subscription, check_name, check_types, read_options
from store.filter import EventFilter
from workers.assembly import declare_all
from workers.consuming import Consuming

T = TypeVar("T")
PAGE = 500

_buses: weakref.WeakSet[EventBus] = weakref.WeakSet()
_left_to_the_parent: list[object] = []


def _in_a_forked_child() -> None:
    """Give every bus new connections and threads; those it had are the parent's, and are not closed here."""
    for bus in list(_buses):
        _left_to_the_parent.append((bus.backend, bus._consuming))
        bus._connect_later()


os.register_at_fork(after_in_child=_in_a_forked_child)


class EventBus:
    """Publishes events, delivers them to subscribers, and answers what happened and why.

    Connects on first use. Threads may share it; its async methods work from any event loop. A forked
    child may use it too: it gets connections of its own, and consumes only when it starts to itself.

    Args:
        settings: read from the environment unless given.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.from_env()
        self._subscriptions: dict[str, Subscription] = {}
        self._undeclared: list[Subscription] = []
        self._connect_later()
        _buses.add(self)

    def _connect_later(self) -> None:
        self.backend = Backend(self.settings)
        self._lock = threading.Lock()
        self._sender = Sender(lambda: self.backend.publisher, self._declare)
        self._consuming: Consuming | None = None

    # publish

    async def publish(self, event: Event) -> str:
        """Publish an event; when this returns it is in history and in every subscriber's queue.

        Returns:
            The event's id.

        Raises:
            EventIdConflict, TooManyRoutes, EventTooLarge: nothing was published.
            HistoryReset: Redis was emptied and no worker has declared the subscribers again.
            RedisUnavailable: it may or may not have arrived; publishing again is safe.
        """
        answers = await asyncio.wrap_future(self._submit([event]))
        return _receipt(answers[0]).event_id

    async def publish_many(self, events: Iterable[Event]) -> list[Answer]:
        """Publish events in their order.

        Returns:
            Per event its `Receipt`, or the error for which it was refused.
        """
        return await asyncio.wrap_future(self._submit(list(events)))

    def publish_sync(self, event: Event) -> str:
        """Publish from code without an event loop; as `publish` does."""
        return _receipt(self._submit([event]).result()[0]).event_id

    def publish_many_sync(self, events: Iterable[Event]) -> list[Answer]:
        """Publish events from code without an event loop; as `publish_many` does."""
        return self._submit(list(events)).result()

    # subscribe

    def subscribe(self, agent: Any, types: Iterable[object], **options: Any) -> None:
        """Subscribe an agent to event types.

        The route is durable: it is written before this bus's next publish or `start_consuming`, and
        stays when the process ends, until `unsubscribe`.

        Args:
            agent: an `EventSubscriber`, or any object with a `handle_event` and a `name` (its class's
                name unless it has one).
            types: event types; `"*"` stands for every type.
            options: fields of `events.subscriptions.SubscriberOptions`, e.g. `max_attempts=5, time_limit=600`.

        Raises:
            InvalidSubscription: naming what is wrong.
        """
        handler = getattr(agent, "handle_event", None)
        if not callable(handler):
            raise InvalidSubscription(f"{type(agent).__name__} has no handle_event method; subclass EventSubscriber.")
        name = check_name(getattr(agent, "name", None) or type(agent).__name__)
        names = check_types(types)
        self._add(Subscription(name, names, handler, runs_on_a_loop(handler), read_options(name, options)))

    def subscriber(self, name: str, types: Iterable[object], **options: Any) -> Callable[[T], T]:
        """Decorate a function as the handler of a subscriber; arguments as `subscribe`'s."""

        def decorate(function: T) -> T:
            self.subscribe(CallbackSubscriber(name, function), types, **options)  # type: ignore[arg-type]
            return function

        return decorate

    def join(
        self,
        name: str,
        after: Iterable[object],
        of: Iterable[object],
        *,
        timeout: float = 86_400.0,
        partial: str = "run",
        **options: Any,
    ) -> Callable[[T], T]:
        """Decorate a function that is called once all is there that an event has set off.

        It is called with the event and a `Joined`: the events of the types `of` that it caused, directly
        or through others, when nothing of it is under way any more. Decided once, whatever crashes.

        Args:
            after: types of the events that begin a join each.
            of: types of the events to wait for; their number need not be known.
            timeout: seconds after the event until it goes with what there is.
            partial: `run` or `dead`: what to do when something became a dead letter, or the time was over.
            options: as `subscribe`'s.

        Raises:
            InvalidSubscription: naming what is wrong.
        """
        return self.subscriber(name, after, join=Join(check_types(of), timeout, partial), **options)

    def unsubscribe(self, agent: Any, types: Iterable[object] | None = None) -> None:
        """Remove an agent's durable routes, all of them unless types are given.

        What already waits for it stays. Stopping or disconnecting never removes a route.
        """
        name = check_name(agent if isinstance(agent, str) else getattr(agent, "name", None) or type(agent).__name__)
        names = check_types(types) if types is not None else ()
        with self._lock:
            known = self._subscriptions.get(name)
            left = tuple(kind for kind in known.types if kind not in names) if known and names else ()
            waits = any(s.name == name for s in self._undeclared)
            self._undeclared = [s for s in self._undeclared if s.name != name]
            if known and left:
                kept = Subscription(name, left, known.handler, known.is_async, known.options)
                self._subscriptions[name] = kept
                if waits:
                    self._undeclared.append(kept)
            else:
                self._subscriptions.pop(name, None)
        self.backend.registry.remove(name, names or None)
        undeclare(self.backend.namespace, name, names)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """This bus's subscribers, in the order in which they were subscribed."""
        with self._lock:
            return tuple(self._subscriptions.values())

    # consume

    async def start_consuming(self, *, threads: int | None = None, archive: bool = True) -> None:
        """Handle events in this process until `stop_consuming`; async handlers run on this event loop.

        Args:
            threads: plain handlers that run at once; the settings' unless given.
            archive: also copy history into the store.

        Raises:
            RedisUnavailable, StoreUnavailable, NotMigrated: nothing was started.
        """
        if self._consuming is not None:
            raise EventBusError("The bus is consuming already.")
        if not self.subscriptions:
            raise EventBusError("The bus has no subscribers: call subscribe before start_consuming.")
        consuming = Consuming(
            self.settings,
            Backend(self.settings, may_restore=True),
            self.subscriptions,
            threads=threads or self.settings.threads,
            loop=asyncio.get_running_loop(),
            archive=archive,
        )
        self._consuming = consuming
        try:
            await asyncio.to_thread(consuming.start)
        except BaseException:
            self._consuming = None
            # The thread goes on when this task is cancelled: have it undo what it starts.
            await asyncio.shield(asyncio.to_thread(consuming.stop, 0.0))
            raise
        with self._lock:
            self._undeclared.clear()

    async def stop_consuming(self, *, grace_s: float | None = None) -> None:
        """Stop handling: running handlers get the grace period, what has not started is handed back.

        Raises:
            EventBusError: when called from inside a handler, which would wait for itself.
        """
        if handling.get() is not None:
            raise EventBusError(
                "stop_consuming was called from inside a handler, which it would wait for; call it outside."
            )
        consuming, self._consuming = self._consuming, None
        if consuming is not None:
            await asyncio.to_thread(consuming.stop, self.settings.grace_s if grace_s is None else grace_s)

    async def disconnect(self) -> None:
        """Stop consuming, send what was submitted, and close every connection. Routes stay."""
        await self.stop_consuming()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Send what was submitted and close every connection; for code without an event loop."""
        self._sender.close()
        self.backend.close()

    # ask

    def get_causation_chain(self, event_id: str) -> list[Event]:
        """Return why an event happened: the events from its root to itself, oldest first.

        Raises:
            EventNotFound: no event has that id.
        """
        return [recorded.event for recorded in self.backend.blackboard.causation.chain(event_id)]

    async def replay_events(
        self,
        project_id: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        event_types: Sequence[object] | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> list[Event]:
        """Return events in history order; every filter is optional, and the times are half-open.

        Args:
            start_time, end_time: naive ones are read as UTC.

        Returns:
            All that match; empty when none does. For long histories use `iter_events`.
        """
        wanted = _filter(project_id, start_time, end_time, event_types, actor, correlation_id)
        return await self._read(lambda: [recorded.event for recorded in self.backend.blackboard.replay.iterate(wanted)])

    async def iter_events(
        self,
        after: int = 0,
        *,
        project_id: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        event_types: Sequence[object] | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> AsyncIterator[RecordedEvent]:
        """Iterate over history from a position, a page in memory at a time.

        Args:
            after: a position, exclusive; resume with the last event's `position`.

        Yields:
            Events at their positions; an event's own attributes can be read directly.
        """
        wanted = _filter(project_id, start_time, end_time, event_types, actor, correlation_id)
        complete = False
        while not complete:
            start = after
            page = await self._read(lambda start=start: self.backend.blackboard.replay.page(wanted, start, PAGE))  # type: ignore[misc]
            for recorded in page.events:
                yield recorded
            after, complete = page.last, page.complete

    # inside

    def _add(self, subscription: Subscription) -> None:
        with self._lock:
            if self._consuming is not None:
                raise InvalidSubscription(
                    f"{subscription.name!r} cannot subscribe while the bus consumes; call stop_consuming first."
                )
            known = self._subscriptions.get(subscription.name)
            if known is not None:
                if known.options != subscription.options or _function(known.handler) != _function(subscription.handler):
                    raise InvalidSubscription(
                        f"{subscription.name!r} is subscribed already, with another handler or other options; "
                        "give the second subscriber a name of its own."
                    )
                types = tuple(dict.fromkeys(known.types + subscription.types))
                subscription = Subscription(known.name, types, known.handler, known.is_async, known.options)
            self._subscriptions[subscription.name] = subscription
            self._undeclared.append(subscription)

    def _declare(self) -> None:
        """Write routes that are not written yet; runs on the sender's thread."""
        with self._lock:
            waiting = list(self._undeclared)
        if waiting:
            declare_all(self.backend.namespace, self.backend.registry, waiting, self.settings.max_routes)
            with self._lock:
                self._undeclared = [s for s in self._undeclared if s not in waiting]

    def _submit(self, events: list[Event]) -> Future[list[Answer]]:
        for event in events:
            if not isinstance(event, Event):
                raise TypeError(f"publish takes an Event, not a {type(event).__name__}.")
        current = handling.get()
        if current is not None:
            current.published.update(event.event_id for event in events)
        return self._sender.submit(events, current.delivery if current else "publish")

    async def _read(self, read: Callable[[], T]) -> T:
        """Run a SQL read in the pool, with the caller's context."""
        context = contextvars.copy_context()
        pool = await asyncio.to_thread(lambda: self.backend.blackboard.pool)
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: context.run(read))


def _receipt(answer: Answer) -> Receipt:
    if isinstance(answer, Receipt):
        return answer
    raise answer


def _function(handler: Any) -> Any:
    return getattr(handler, "__func__", handler)


def _filter(
    project_id: str | None,
    start_time: datetime | None,
    end_time: datetime | None,
    event_types: Sequence[object] | None,
    actor: str | None,
    correlation_id: str | None,
) -> EventFilter:
    if isinstance(event_types, str):
        raise InvalidFilter(f"event_types must be a list of event types, not the string {event_types!r}.")
    names = tuple(str(getattr(kind, "value", kind)) for kind in event_types or ())
    return EventFilter(
        project_id=project_id,
        start_time=start_time,
        end_time=end_time,
        types=() if "*" in names else names,
        actor=actor,
        correlation_id=correlation_id,
    )
