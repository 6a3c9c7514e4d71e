"""The event bus: publish events, subscribe agents, ask what happened.

    from events import Event, EventType, EventSubscriber, CallbackSubscriber, EventBus, publish

Names are loaded when they are first used, so that `import events` stays cheap and connects to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from events.bus import EventBus as EventBus
    from events.default import publish as publish
    from events.errors import Discard as Discard
    from events.errors import EventBusError as EventBusError
    from events.errors import Retry as Retry
    from events.errors import TimeLimitExceeded as TimeLimitExceeded
    from events.event import Event as Event
    from events.settings import Settings as Settings
    from events.subscriber import CallbackSubscriber as CallbackSubscriber
    from events.subscriber import EventSubscriber as EventSubscriber
    from events.types import EventType as EventType

_HOMES = {
    "CallbackSubscriber": "events.subscriber",
    "Discard": "events.errors",
    "Event": "events.event",
    "EventBus": "events.bus",
    "EventBusError": "events.errors",
    "EventSubscriber": "events.subscriber",
    "EventType": "events.types",
    "Retry": "events.errors",
    "Settings": "events.settings",
    "TimeLimitExceeded": "events.errors",
    "publish": "events.default",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'events' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
