"""An application whose handler says how many objects Python's collector leaves alone in its process, and looks at."""

from __future__ import annotations

import gc

from events.bus import EventBus
from events.event import Event
from tests.fleet.app import book

bus = EventBus()


@bus.subscriber("Lean", ["LEAN"])
def look(event: Event) -> None:
    book().hset("lean", mapping={"frozen": gc.get_freeze_count(), "searched": len(gc.get_objects())})
