"""Agents for the tests of traces: some in a row, one that publishes itself, one that fails, one that does not stop."""

from __future__ import annotations

import time
from contextlib import suppress

from events.bus import EventBus
from events.event import Event
from events.types import named

bus = EventBus()


@bus.subscriber("First", ["TRACED"])
def first(event: Event) -> Event:
    return event.caused("TRACED_AGAIN")


@bus.subscriber("Second", ["TRACED_AGAIN"])
async def second(event: Event) -> None:
    await bus.publish(Event(type=named("TRACED_LAST")))


@bus.subscriber("Failing", ["TRACED_LAST"], max_attempts=2, min_backoff=0.01, max_backoff=0.02)
async def failing(event: Event) -> None:
    if not event.payload.get("fine"):
        raise ValueError("it does not work")


@bus.subscriber("Stuck", ["TRACED_STUCK"])
def stuck(event: Event) -> None:
    bus.backend.client.rpush("ran:Stuck", event.event_id)
    while True:
        with suppress(BaseException):
            time.sleep(0.05)
