"""What a bus does with events before it sends them, and with their answers."""

from __future__ import annotations

from events.context import handling
from events.errors import EventBusError
from events.event import Event
from events.publisher import Answer


def noted(events: list[Event]) -> str:
    """Return the origin of what is about to be published; inside a handler, note that it publishes it."""
    for event in events:
        if not isinstance(event, Event):
            raise TypeError(f"publish takes an Event, not a {type(event).__name__}.")
    current = handling.get()
    if current is None:
        return "publish"
    current.published.update(event.event_id for event in events)
    return current.delivery


def acknowledged(answer: Answer) -> str:
    if isinstance(answer, EventBusError):
        raise answer
    return answer.event_id
