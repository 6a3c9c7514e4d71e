"""Agents for the tests of the web process: one that works, one that never does."""

from __future__ import annotations

from events.bus import EventBus
from events.event import Event

bus = EventBus()


@bus.subscriber("Writer", ["PROJECT_CREATED"])
async def write(event: Event) -> Event:
    return event.caused("SCENE_WRITTEN", payload={"of": event.event_id}, cost=0.25, latency_ms=12)


@bus.subscriber("Broken", ["ERROR_DETECTED"], max_attempts=1)
async def fail(event: Event) -> None:
    raise RuntimeError(f"it cannot <script>alert({event.payload.get('why')})</script>")
