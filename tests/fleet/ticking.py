"""An application of a schedule alone: nobody subscribes to anything."""

from __future__ import annotations

from events.bus import EventBus
from events.event import Event

bus = EventBus()


@bus.every("* * * * *")
def tick(slot: object) -> Event:
    return Event(project_id="p", type="TICK", actor="clock")
