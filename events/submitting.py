"""What a bus does with events before it sends them, and with their answers."""

from __future__ import annotations

from events.context import handling
from events.errors import EventBusError
from events.event import Event
from events.publisher import Answer


def noted(events: list[Event]) -> str:
    """Return the origin of what is about to be published; inside a handler, note there that it publishes it.

    Args:
        events: of one call to publish, in its order.

    Returns:
        `publish`; inside a handler the name of its delivery.

    Raises:
        TypeError: one is no `Event`; nothing is noted and nothing was sent.
    """
    for event in events:
        if not isinstance(event, Event):
            raise TypeError(f"publish takes an Event, not a {type(event).__name__}.")
    current = handling.get()
    if current is None:
        return "publish"
    current.published.update(event.event_id for event in events)
    return current.delivery


def acknowledged(answer: Answer) -> str:
    """Return the id of an event that was published or scheduled, now or before.

    Args:
        answer: of one event, as `publish_many` gives it.

    Raises:
        EventBusError: the answer itself, where it is the error for which the event was refused.
    """
    if isinstance(answer, EventBusError):
        raise answer
    return answer.event_id
