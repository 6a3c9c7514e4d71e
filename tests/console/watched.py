"""Agents to be watched: one that works, one that fails for good."""

from __future__ import annotations

from events.bus import EventBus
from events.event import Event

bus = EventBus()


@bus.subscriber("Painter", ["PAINTED"])
async def paint(event: Event) -> None:
    pass


@bus.subscriber("Breaker", ["BROKEN"], max_attempts=1)
async def fail(event: Event) -> None:
    raise RuntimeError("on purpose")
