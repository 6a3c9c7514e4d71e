"""Facts that have a place: an event at its position, and the outcome of one attempt.

Leaf values shared by history, store and workers. They depend on nothing but the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from events.event import Event


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event and its place in the one order.

    Attributes:
        position: integer microseconds, unique and increasing in a namespace.
        event: with `correlation_id` filled: the root's id.
        depth: 0 for a root, else one more than its cause's.
        deliveries: names of the subscribers it was delivered to, sorted.
        origin: `publish`; `direct` when persisted without being published; else the delivery
            that returned it, `<position>:<subscriber>:<redelivery>`.
    """

    position: int
    event: Event
    depth: int = 0
    deliveries: tuple[str, ...] = ()
    origin: str = "publish"

    def __getattr__(self, name: str) -> Any:
        """Read the event's own attributes: `recorded.type` is `recorded.event.type`."""
        if name in Event.model_fields or name in ("cost", "latency_ms"):
            return getattr(self.event, name)
        raise AttributeError(f"A RecordedEvent has no attribute {name!r}.")


class AttemptState(StrEnum):
    """How one attempt ended. `done`, `dead`, `discarded` and `dropped` end the delivery; the others do not.

    `dropped` ends a delivery that may never have been tried: its subscriber was dropped.
    """

    DONE = "done"
    RETRIED = "retried"
    DEAD = "dead"
    DISCARDED = "discarded"
    DROPPED = "dropped"
    LOST = "lost"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt at one delivery ended.

    Attributes:
        position: the outcome's own place, from the same clock as events.
        event_position: the event's position; 0 when the entry was too malformed to tell.
        subscriber: whose delivery it was.
        redelivery: 0 for the delivery that publish made, counted up by each explicit redelivery.
        attempt: 1 for the first try.
        state: how it ended.
        worker: the consumer name that held the lease.
        elapsed_us: microseconds that the handler ran; 0 when it did not run or nobody knows.
        error: one line that says why, empty when it went well.
    """

    position: int
    event_position: int
    subscriber: str
    redelivery: int
    attempt: int
    state: AttemptState
    worker: str
    elapsed_us: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that could not be read, set aside with its reason so that it blocks nothing.

    Attributes:
        entry_id: its id in the stream, `<milliseconds or position>-<sequence>`.
        reason: a sentence.
        raw: what it held, as text, cut at 64 KiB.
    """

    entry_id: str
    reason: str
    raw: str
