"""The bus: what applications and pipeline steps hold.

Composition: it wires publishing (events), consuming (workers) and asking (store). It decides
nothing about correctness; those decisions live in the scripts, the settler and the archiver.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from events.again import Again
from events.backend import Backend
from events.context import handling
from events.errors import EventBusError, InvalidSchedule, InvalidSubscription
from events.joining import Join
from events.link import Link
from events.loop_sender import LoopSenders
from events.publisher import Publisher
from events.publishing import Publishing
from events.routes import undeclare
from events.schemas import Schemas
from events.sender import Sender
from events.settings import Settings
from events.subscriber import CallbackSubscriber, runs_on_a_loop, wants_payload
from events.subscriptions import Subscription, check_name, check_types, read_options
from events.telemetry import tracing_of
from events.typed import Typed
from workers.assembly import declare_all
from workers.consuming import Consuming
from workers.schedules import Schedule, make_schedule

T = TypeVar("T")
Delay = float | timedelta | None

_buses: weakref.WeakSet[EventBus] = weakref.WeakSet()
_left_to_the_parent: list[object] = []


def _in_a_forked_child() -> None:
    """Give every bus new connections and threads; those it had are the parent's, and are not closed here."""
    for bus in list(_buses):
        _left_to_the_parent.append((bus.backend, bus._consuming))
        bus._connect_later()


os.register_at_fork(after_in_child=_in_a_forked_child)


class EventBus(Publishing, Again, Typed):
    """Publishes events, delivers them to subscribers, and answers what happened and why.

    Connects on first use. Threads may share it; its async methods work from any event loop. A forked
    child may use it too: it gets connections of its own, and consumes only when it starts to itself.

    Args:
        settings: read from the environment unless given.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.from_env()
        self.schemas = Schemas()
        self._subscriptions: dict[str, Subscription] = {}
        self._undeclared: list[Subscription] = []
        self._schedules: dict[str, Schedule] = {}
        self._connect_later()
        _buses.add(self)

    def _connect_later(self) -> None:
        self.backend = Backend(self.settings, schemas=self.schemas)
        self._tracing = tracing_of(self.settings)
        self._lock = threading.Lock()
        self._sender = Sender(lambda: self.backend.publisher, self._declare)
        self._here = LoopSenders(self._publisher_at_hand, self._sender.submit, self._link)
        self._consuming: Consuming | None = None

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
        if isinstance(agent, type):
            raise InvalidSubscription(
                f"{agent.__name__} is a class: subscribe an agent made of it, {agent.__name__}()."
            )
        if not callable(handler):
            raise InvalidSubscription(f"{type(agent).__name__} has no handle_event method; subclass EventSubscriber.")
        name = check_name(getattr(agent, "name", None) or type(agent).__name__)
        names, read = check_types(types), read_options(name, options)
        wants = wants_payload(handler)
        self._add(Subscription(name, names, handler, runs_on_a_loop(handler), read, self.schemas, wants))

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
                self._subscriptions[name] = kept = replace(known, types=left)
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

    def every(
        self, cron: str, factory: Any = None, *, name: str | None = None, timezone: str = "UTC", missed: str = "last"
    ) -> Any:
        """Publish what a factory makes at every slot of a cron, while workers run; without one, a decorator.

        However many processes run the schedule, a slot's events are published once, in the step that
        moves the schedule's cursor past it. A schedule that Redis does not know yet begins now.

        Args:
            cron: minute, hour, day of month, month, day of week, as in `0 3 * * *`; a sixth before them is seconds.
            factory: plain or async; gets the slot, an aware datetime, and returns an event, a list, or
                None. Several processes may call it for one slot, and again after it failed: have it do nothing else.
            name: names the cursor; the factory's unless given.
            timezone: an IANA name; whose clock `cron` means.
            missed: what becomes of slots that passed while nothing ran, or while the factory failed:
                `last` fires the latest, `all` each (the last 1,000), `skip` those under a minute late.

        Raises:
            InvalidSchedule: naming what is wrong.
        """
        if factory is None:
            return lambda function: self.every(cron, function, name=name, timezone=timezone, missed=missed)
        schedule = make_schedule(cron, factory, name, timezone, missed, self.schemas)
        with self._lock:
            if self._consuming is not None or schedule.name in self._schedules:
                why = (
                    "there is one already" if self._consuming is None else "the bus consumes; call stop_consuming first"
                )
                raise InvalidSchedule(f"The schedule {schedule.name!r} cannot be added: {why}.")
            self._schedules[schedule.name] = schedule
        return factory

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """This bus's cron schedules."""
        return tuple(self._schedules.values())

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
        if not self.subscriptions and not self.schedules:
            raise EventBusError("The bus has no subscribers: call subscribe before start_consuming.")
        consuming = Consuming(
            self.settings,
            Backend(self.settings, may_restore=True),
            self.subscriptions,
            threads=threads or self.settings.threads,
            schedules=self.schedules,
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
        await self._here.sender().flush()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Send what was submitted and close every connection; for code without an event loop."""
        self._here.close()
        self._sender.close()
        if self._tracing is not None:
            self._tracing.close()
        self.backend.close()

    # inside

    def _add(self, subscription: Subscription) -> None:
        with self._lock:
            if self._consuming is not None:
                raise InvalidSubscription(
                    f"{subscription.name!r} cannot subscribe while the bus consumes; call stop_consuming first."
                )
            known = self._subscriptions.get(subscription.name)
            if known is not None:
                if not known.is_same_as(subscription):
                    raise InvalidSubscription(
                        f"{subscription.name!r} is subscribed already, with another handler or other options; "
                        "give the second subscriber a name of its own."
                    )
                types = tuple(dict.fromkeys(known.types + subscription.types))
                subscription = replace(known, types=types)
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

    def _publisher_at_hand(self) -> Publisher | None:
        """What a loop may publish with; None while the sender's thread has to: at first, and to write routes."""
        publisher = self._sender.publisher
        return publisher if publisher is not None and publisher.is_ready() and not self._undeclared else None

    async def _link(self) -> Link:
        return await Link.open(self.backend.redis_url(), self.settings.timeout_s, self.settings.redis_trust)
