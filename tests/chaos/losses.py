"""What Redis may forget, precisely: taken at the moment when it does.

docs/guarantees.md: FLUSHALL, and a replica that lacks the last moments, lose what was not archived. What was in
history then and is not in the store may be lost; so may what was only scheduled. What the outbox holds comes back. What
has ended may run again, and what was published since may end before what is put back. Nothing else is allowed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from events.records import RecordedEvent
from events.stream import read_event

if TYPE_CHECKING:
    import redis

    from tests.chaos.stage import Stage


@dataclass(frozen=True)
class Lost:
    """An event that may be lost: its id, what caused it, and of which type it is."""

    event_id: str
    cause: str | None
    type: str


@dataclass(frozen=True)
class Loss:
    """One such moment.

    Attributes:
        clock: the last position that was given before. at: monotonic seconds.
        settled_from: the first position at which something may have ended and been forgotten.
        events: by id; what was scheduled has no cause, and is of no type, here.
    """

    clock: int
    at: float
    settled_from: int
    events: dict[str, Lost]

    def forgot_end(self, position: int) -> bool:
        """Whether an outcome at this position may have been forgotten, though the store has it."""
        return self.settled_from <= position <= self.clock


def lost_by_flushing(stage: Stage) -> Loss:
    """Empty Redis, and say what it had, in one step.

    Of what had ended the store has all, but for the outcomes that were not archived.
    """
    with stage.redis.pipeline(transaction=True) as pipe:
        pipe.xrange(stage.keys("history"))
        pipe.zrange(stage.keys("scheduled"), 0, -1)
        pipe.get(stage.keys("clock"))
        pipe.xrange(stage.keys("outcomes"), count=1)
        pipe.flushall()
        history, scheduled, clock, first, _ = pipe.execute()
    settled_from = int(first[0][0].split(b"-")[0]) if first else int(clock or 0) + 1
    return _loss(history, scheduled, clock, settled_from)


def lost_by_failing_over(stage: Stage, behind: redis.Redis) -> Loss:
    """Say what a primary, to which nobody writes any more, has and a replica lacks."""
    history, scheduled, clock = _content(stage, stage.redis)
    known, still_scheduled, before = _content(stage, behind)
    kept = {entry_id for entry_id, _ in known}
    gone = [event_id for event_id in scheduled if event_id not in set(still_scheduled)]
    return _loss([entry for entry in history if entry[0] not in kept], gone, clock, int(before or 0) + 1)


def in_history(entries: Any) -> Iterator[RecordedEvent]:
    """Iterate over those of history's entries that are events."""
    records = (read_event(entry_id, fields) for entry_id, fields in entries)
    return (record for record in records if isinstance(record, RecordedEvent))


def _content(stage: Stage, client: redis.Redis) -> tuple[Any, Any, Any]:
    with client.pipeline(transaction=True) as pipe:
        pipe.xrange(stage.keys("history"))
        pipe.zrange(stage.keys("scheduled"), 0, -1)
        pipe.get(stage.keys("clock"))
        history, scheduled, clock = pipe.execute()
    return history, scheduled, clock


def _loss(history: Any, scheduled: Any, clock: bytes | None, settled_from: int) -> Loss:
    events = {event_id.decode(): Lost(event_id.decode(), None, "") for event_id in scheduled}
    for event in (recorded.event for recorded in in_history(history)):
        events[event.event_id] = Lost(event.event_id, event.causation_id, str(event.type))
    return Loss(int(clock or 0), time.monotonic(), settled_from, events)
