"""An async subscriber one of whose events makes a call that blocks the event loop, until the key `release` is there."""

from __future__ import annotations

import os
import time

import redis

from events.bus import EventBus
from events.event import Event

LOOK_S = 0.02

bus = EventBus()
_book: redis.Redis | None = None


def book() -> redis.Redis:
    global _book
    if _book is None:
        _book = redis.Redis.from_url(bus.backend.redis_url())
    return _book


@bus.subscriber("Reader", ["PAGE"])
async def read(event: Event) -> None:
    book().rpush("ran:Reader", f"{event.event_id} {os.getpid()}")
    if event.payload.get("blocks"):
        book().set("blocked", os.getpid())
        while not book().exists("release"):
            time.sleep(LOOK_S)


@bus.subscriber("Printer", ["PRINT"])
def print_out(event: Event) -> None:
    book().rpush("ran:Printer", f"{event.event_id} {os.getpid()}")
