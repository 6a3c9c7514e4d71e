"""An application of time: a schedule that ticks every second, and a subscriber that notes when events arrive."""

from __future__ import annotations

import os
import time
from datetime import datetime

import redis

from events.bus import EventBus
from events.event import Event

bus = EventBus()
_book: redis.Redis | None = None


def book() -> redis.Redis:
    global _book
    if _book is None:
        _book = redis.Redis.from_url(bus.backend.redis_url())
    return _book


@bus.subscriber("Timed", ["TIMED"])
def note(event: Event) -> None:
    book().rpush("arrived", f"{event.event_id} {time.time():.6f} {os.getpid()}")


@bus.every("* * * * * *", missed="all")
def tick(slot: datetime) -> Event:
    book().rpush("called", f"{slot.isoformat()} {os.getpid()}")
    return Event(project_id="P", type="TICK", actor="clock", payload={"slot": slot.isoformat()})
