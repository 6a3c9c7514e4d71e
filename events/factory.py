"""Making buses: a factory, and a manager that starts and stops one.

Composition: it wires what `events.bus` offers to settings from the environment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from events.bus import EventBus
from events.settings import Settings

Subscriber = tuple[Any, Iterable[object]] | tuple[Any, Iterable[object], Mapping[str, Any]]


class EventBusFactory:
    """Makes connected buses."""

    @staticmethod
    async def create(settings: Settings | None = None, blackboard: Any = None) -> EventBus:
        """Return a bus that has reached its servers.

        Args:
            settings: read from the environment unless given.
            blackboard: a `store.blackboard.Blackboard` whose settings the bus shares.

        Raises:
            RedisUnavailable, StoreUnavailable, NotMigrated: naming the URL, or what to run.
        """
        if settings is None and blackboard is not None:
            settings = blackboard.settings
        bus = EventBus(settings)
        try:
            await asyncio.to_thread(bus.backend.namespace.open)
        except BaseException:
            await bus.disconnect()
            raise
        return bus


class EventBusManager:
    """Runs a bus for the length of a block: `async with EventBusManager(...) as bus`.

    Args:
        settings: read from the environment unless given.
        subscribers: pairs of an agent and its event types, or triples with a dict of the options that
            `EventBus.subscribe` takes; with any, the bus consumes.
    """

    def __init__(self, settings: Settings | None = None, subscribers: Iterable[Subscriber] = ()) -> None:
        self._settings = settings
        self._subscribers = list(subscribers)
        self._bus: EventBus | None = None

    async def __aenter__(self) -> EventBus:
        bus = self._bus = await EventBusFactory.create(self._settings)
        try:
            for agent, types, *options in self._subscribers:
                bus.subscribe(agent, types, **(options[0] if options else {}))
            if self._subscribers:
                await bus.start_consuming()
        except BaseException:
            await bus.disconnect()
            raise
        return bus

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bus is not None:
            await self._bus.disconnect()
