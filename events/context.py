"""What a handler is handling, for code that runs inside it.

A context variable, set by the worker around each attempt and inherited by the tasks that the
handler starts. It fills the defaults of events made inside a handler, tells publish which delivery caused
them, and the inbox which one is being handled. Nothing else may be built on it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from events.event import Event


@dataclass(slots=True)
class Handling:
    """One attempt at one delivery, as its handler sees it.

    Attributes:
        event: the event being handled.
        subscriber: the name of the subscriber whose handler runs.
        attempt: 1 for the first try.
        delivery: the delivery's name, `<position>:<subscriber>:<redelivery>`.
        namespace: whose delivery it is.
        published: ids that the handler has published itself, or put into the outbox, during this attempt.
    """

    event: Event
    subscriber: str
    attempt: int
    delivery: str
    namespace: str = "eventbus"
    published: set[str] = field(default_factory=set)


handling: ContextVar[Handling | None] = ContextVar("eventbus_handling", default=None)
