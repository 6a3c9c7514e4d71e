"""The smallest application: a subscriber that counts what it handled, by process, in Redis."""

from __future__ import annotations

import os

from events.bus import EventBus
from events.event import Event
from tests.fleet.app import book

bus = EventBus()
_count = 0


@bus.subscriber("Counter", ["COUNTED"])
async def count(event: Event) -> None:
    """Count, and write the sum down."""
    global _count
    _count += 1
    book().hset("counted", str(os.getpid()), _count)
