"""The agent's side of the contract: something with a name that handles events.

What a handler returns is published exactly once when its attempt settles: None, one event, a list
of events, or the events that an async generator yields. Raising fails the attempt; `Retry` and
`Discard` say what to do instead.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from events.event import Event

Returned = Event | Iterable[Event] | None
Handler = Callable[..., Returned | Awaitable[Returned] | AsyncIterator[Event]]
_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class EventSubscriber(ABC):
    """An agent that handles events; subclass it, or pass any object with a `handle_event`.

    Attributes:
        name: names the subscriber and its queue, so that restarts and other processes share its
            deliveries. The class's name unless given.
    """

    name: str = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__dict__.get("name"):
            cls.name = cls.__name__

    @abstractmethod
    def handle_event(self, event: Event) -> Any:
        """Handle one event, at least once; `async def`, plain `def` or an async generator.

        Returns:
            None, an event, or a list of events to publish.
        """


class CallbackSubscriber(EventSubscriber):
    """A subscriber made of a function.

    Args:
        name: names the subscriber and its queue.
        callback: called with each event, as `EventSubscriber.handle_event` is.
    """

    def __init__(self, name: str, callback: Handler) -> None:
        self.name = name
        self.callback = callback

    @property
    def handle_event(self) -> Any:
        """The callback itself."""
        return self.callback


def wants_payload(handler: Callable[..., Any]) -> bool:
    """Tell whether the handler has a second parameter `payload` that it cannot do without."""
    try:
        parameters = list(inspect.signature(handler).parameters.values())
        inspect.signature(handler, follow_wrapped=False).bind(None, None)  # a wrapper may give it one of its own
    except (TypeError, ValueError):
        return False
    second = parameters[1] if len(parameters) > 1 else None
    return second is not None and second.name == "payload" and second.default is second.empty and second.kind in _PLACED


def runs_on_a_loop(handler: Callable[..., Any]) -> bool:
    """Tell whether the handler is a coroutine or async generator function."""
    call = getattr(handler, "__call__", handler)  # noqa: B004 - an object with an async __call__ counts
    return any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in (handler, call))
