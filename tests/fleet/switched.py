"""An application whose handlers fail until somebody mends what they need."""

from __future__ import annotations

from events.bus import EventBus
from events.event import Event
from tests.fleet.app import book, record

bus = EventBus()


def work(event: Event) -> Event:
    record()
    if event.payload.get("needs") and not book().exists(event.payload["needs"]):
        raise RuntimeError(f"no {event.payload['needs']}")
    record("finished")
    return event.caused("PRINTED")


@bus.subscriber("Press", ["PRINT"], max_attempts=2, min_backoff=0.05, ordering="project", on_dead="block")
def press(event: Event) -> Event:
    return work(event)


@bus.subscriber("Copier", ["COPY"], max_attempts=1)
async def copy(event: Event) -> Event:
    return work(event)
