"""Puts a worker together: the broker of some subscribers and its scheduler, over connections made elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from events.backfill import look
from events.errors import TooManyRoutes
from events.namespace import Declared, Namespace
from events.routes import declare
from events.scheduled import ScheduledEvents
from events.settings import Settings
from events.slots import Slots
from events.subscriptions import Subscription
from store.registry import Registry
from store.replay import Replay
from workers.backfill import Backfiller, Backfills
from workers.broker import StreamsBroker
from workers.engine import Engine
from workers.scheduler import Scheduler, Schedulers
from workers.schedules import Schedule
from workers.timetable import Timetable


class Stores(Protocol):
    """The connections of a worker; `events.backend.Backend` provides them."""

    @property
    def namespace(self) -> Namespace: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def replay(self) -> Replay: ...


def declare_all(
    namespace: Namespace, registry: Registry, subscriptions: Sequence[Subscription], max_routes: int
) -> None:
    """Write subscribers to the store, then to Redis.

    The store comes first: from it a Redis that lost everything is declared again. Only the epoch comes
    before it: a namespace is new as long as the store remembers nobody. The store also says with what a
    record begins that is new in Redis, so that a start that was cut short between the two is repeated as it
    was, whatever the code says by then. Redis follows while the row is held, so that who drops a subscriber
    meanwhile has dropped it in both places, or in neither.

    Raises:
        NotMigrated: the database is not at this version's schema; nothing was declared.
    """
    registry.require_current()
    namespace.open()
    before = {row.subscriber: row.types for row in registry.all()}
    for subscription in subscriptions:
        declared = subscription.declared()
        try:
            while not _declared(namespace, registry, declared, max_routes):
                pass
        except TooManyRoutes:
            # Restored from the store, the route that was refused here would make its type unpublishable.
            refused = set(declared.types) - set(before.get(declared.name, ()))
            if refused:
                registry.remove(declared.name, refused)
            raise


def _declared(namespace: Namespace, registry: Registry, declared: Declared, max_routes: int) -> bool:
    """Write a subscriber to the store, then to Redis; False when it was dropped between the two."""
    registry.save(declared.name, declared.types, declared.options, declared.steering)
    with registry.held(declared.name) as row:
        if row.is_new:
            row.removed = True
            return False
        declare(namespace, replace(declared, steering=row.steering), max_routes)
        if "cursor" in row.steering:
            place = look(namespace, declared.name)
            if place.is_filling and place.cursor < int(row.steering["cursor"]):
                row.steering["cursor"] = str(place.cursor)  # its start had not come: Redis has made it now
    return True


def make_broker(
    settings: Settings,
    connections: Callable[[], Stores],
    subscriptions: Sequence[Subscription],
    *,
    schedules: Sequence[Schedule] = (),
    grace_s: float | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    keep_waiting: Callable[[], bool] = lambda: True,
) -> StreamsBroker:
    """Make the broker; nothing connects before a `dramatiq.Worker` boots on it.

    Args:
        connections: called at boot, in the process that runs the worker.
        schedules: cron schedules that the worker runs too.
        grace_s: seconds for running handlers at the end; the settings' unless given.
        loop: where async handlers run; None gives the worker a loop of its own.
        keep_waiting: asked at boot while servers cannot be reached; False makes the boot fail instead.
    """

    stores: Stores

    def make_engine(threads: int) -> Engine:
        nonlocal stores
        stores = connections()
        namespace, registry = stores.namespace, stores.registry
        return Engine(
            namespace,
            settings,
            {subscription.name: subscription for subscription in subscriptions},
            threads=threads,
            declare=lambda: declare_all(namespace, registry, subscriptions, settings.max_routes),
            loop=loop,
        )

    def make_filler(broker: StreamsBroker) -> Backfiller:
        receiver = broker.engine.receiver
        return Backfiller(
            stores.namespace, stores.registry, stores.replay, broker.subscriptions, lambda: receiver.filling
        )

    def make_scheduler_of(broker: StreamsBroker) -> Scheduler:
        return make_scheduler(settings, broker.engine.namespace, schedules, broker.engine.loop)

    return StreamsBroker(
        subscriptions,
        make_engine,
        grace_s=settings.grace_s if grace_s is None else grace_s,
        keep_waiting=keep_waiting,
        middleware=[Backfills(make_filler), Schedulers(make_scheduler_of)],
    )


def make_scheduler(
    settings: Settings,
    namespace: Namespace,
    schedules: Sequence[Schedule] = (),
    loop: asyncio.AbstractEventLoop | None = None,
) -> Scheduler:
    """Make the scheduler of one process.

    Args:
        loop: where async factories run; only schedules need it.
    """
    timetable = None
    if schedules:
        assert loop is not None
        timetable = Timetable(Slots(namespace, settings.max_routes), schedules, loop, settings.max_event_bytes)
    return Scheduler(ScheduledEvents(namespace, settings.max_routes), timetable)
