"""Agents for the tests of traces: a plain and an async one in a row, one that publishes itself, one that fails."""

from __future__ import annotations

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
